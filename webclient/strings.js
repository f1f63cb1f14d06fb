// Every word the page says, in one place, so that another language is another file like this one.

const number = new Intl.NumberFormat("en");

export const strings = {
  language: "en",

  newChat: "New chat",
  send: "Send",
  stop: "Stop",
  tryAgain: "Try again",
  copy: "Copy",
  copied: "Copied",
  toEnd: "Go to the latest text",

  transcript: "Conversation",
  question: "Your message",
  questionPlaceholder: "Write a message…",
  hint: "Answers can be wrong. Check what matters.",
  youSaid: "You said:",
  modelSaid: "The model said:",
  code: "code",

  welcome: "What’s on your mind?",
  welcomeHere: (model) => `${model} runs entirely on this computer. Nothing you write leaves it.`,
  welcomeThere: (model, host) => `${model} runs on ${host}. What you write goes there and nowhere else.`,
  someModel: "The model",

  loading: "Getting the model ready…",
  percent: (fraction) => new Intl.NumberFormat("en", { style: "percent" }).format(fraction),
  loadingWait: "You can already write. The answer starts as soon as the model is ready.",
  gone: "The program isn’t running any more.",
  goneHint: "Start it again, and this page carries on where you left off.",
  unavailable: "The model isn’t available.",
  back: "The program is running again.",

  answering: "The model is answering.",
  stopped: "You stopped this answer.",
  cut: "The answer reached its length limit and ends here.",

  errorUnreachable: "The program stopped answering in the middle of this.",
  errorBroken: "The answer broke off before it was finished.",
  errorContextFull: "This conversation has become longer than the model can keep in mind. Start a new chat to go on.",
  errorContextFullBy: (needed, available) =>
    `This conversation has become longer than the model can keep in mind: ${number.format(needed)} tokens, and there ` +
    `is room for ${number.format(available)}. Start a new chat to go on.`,
  errorTooLong: "This message is longer than the model can keep in mind. Try a shorter one in a new chat.",
  errorAnswer: (reason) => `The model could not answer: ${reason}`,
  errorStatus: (status) => `the program replied with error ${status}.`,
};
