// Presets by name and the settings of the next new chat. Kept by the browser for each bundle by its name; a bundle that
// moves to another port leaves them behind, as browsers keep things by address.

import { knownSettings } from "./fields.js";

export class Presets {
  #key;
  #presets;
  #latest;

  constructor(bundleName) {
    this.#key = `holdall.settings.1.${bundleName}`;
    const { presets = {}, latest = {} } = read(this.#key);
    this.#presets = new Map(Object.entries(presets).map(([name, settings]) => [name, knownSettings(settings)]));
    this.#latest = knownSettings(latest);
  }

  get names() {
    return [...this.#presets.keys()].sort((one, other) => one.localeCompare(other));
  }

  get(name) {
    return this.#presets.get(name) ?? null;
  }

  /** The name under which just these settings are kept, or null. */
  nameOf(settings) {
    const wanted = JSON.stringify(knownSettings(settings));
    return this.names.find((name) => JSON.stringify(this.get(name)) === wanted) ?? null;
  }

  save(name, settings) {
    this.#presets.set(name, knownSettings(settings));
    this.#write();
  }

  remove(name) {
    this.#presets.delete(name);
    this.#write();
  }

  get latest() {
    return { ...this.#latest };
  }

  set latest(settings) {
    this.#latest = knownSettings(settings);
    this.#write();
  }

  #write() {
    localStorage.setItem(this.#key, JSON.stringify({ presets: Object.fromEntries(this.#presets), latest: this.#latest }));
  }
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? {};
  } catch {
    return {}; // not ours
  }
}
