// Keeps asking the server how it is and tells of every answer; knows nothing of what the page does with them.

import { ApiError, readHealth } from "./api.js";

// Loading moves, and a server that is away should be noticed soon after it is back; a ready one is only glanced at.
const PAUSE_MS = { loading: 250, gone: 1000, failed: 2000, ready: 4000 };

/**
 * Call `onHealth` with `readHealth`'s answers and with `{status: "gone"}`, for as long as the page lives.
 * Return a function that asks at once instead of after the pause.
 */
export function watchServer(onHealth) {
  let hurry = () => {};
  const pause = (milliseconds) =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  (async () => {
    while (true) {
      const health = await readHealth().catch((error) => {
        if (error instanceof ApiError) return { status: "gone" };
        throw error;
      });
      await onHealth(health);
      await pause(PAUSE_MS[health.status]);
    }
  })();
  return () => hurry();
}
