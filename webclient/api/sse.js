// Server-sent events, from pieces of text to events; knows nothing of networks or of what the data mean.
//
// The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
// A line may end in LF, CR or CRLF, and a piece may end anywhere, also between the CR and the LF of one CRLF. So a CR
// ends its line at once, and the LF that may follow it, in this piece or the next, is skipped.

export class EventParser {
  #line = "";
  #name = "";
  #data = [];
  #isAtStart = true;
  #skipsLineFeed = false;

  /** Take the next piece of the stream; return the events it completes, each `{name, data}`. */
  feed(piece) {
    const events = [];
    let start = 0;
    if (this.#isAtStart && piece.length > 0) {
      this.#isAtStart = false;
      if (piece[0] === "\uFEFF") start = 1;
    }
    for (let i = start; i < piece.length; i++) {
      const isLineFeed = piece[i] === "\n";
      if (isLineFeed && this.#skipsLineFeed) {
        this.#skipsLineFeed = false;
        start = i + 1;
        continue;
      }
      this.#skipsLineFeed = piece[i] === "\r";
      if (!isLineFeed && !this.#skipsLineFeed) continue;
      const event = this.#endLine(this.#line + piece.slice(start, i));
      if (event) events.push(event);
      this.#line = "";
      start = i + 1;
    }
    this.#line += piece.slice(start);
    return events;
  }

  #endLine(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#name = value;
    return null; // `id` and `retry` serve reconnection, which a POST has none of
  }

  #dispatch() {
    const event = this.#data.length > 0 ? { name: this.#name || "message", data: this.#data.join("\n") } : null;
    this.#name = "";
    this.#data = [];
    return event;
  }
}
