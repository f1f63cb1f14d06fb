// The panel of settings: every setting with what it does, presets by name, and the way back.

import { strings } from "../language/words.js";
import { $, element, iconButton, textButton } from "../ui/dom.js";
import { toast } from "../ui/toast.js";
import { FIELDS, GROUPS, isJson, knownSettings, numbersOf, standardOf } from "./fields.js";

const OWN = ""; // the bundle's, in the list of presets
const CHANGED = "\0changed";

export class SettingsPanel {
  #presets;
  #onChange;
  #settings = {};
  #face = {};
  #redraw = [];

  /** `onChange(settings)` is called with what differs from the bundle's own. */
  constructor(presets, onChange) {
    this.#presets = presets;
    this.#onChange = onChange;
  }

  /** `face` is what page.json says: the bundle's defaults, and the settings' ranges. */
  show(settings, face) {
    this.#settings = knownSettings(settings);
    this.#face = face;
    this.draw();
  }

  draw() {
    this.#redraw = [];
    const groups = GROUPS.map(({ name, fields }) =>
      element("fieldset", {}, element("legend", {}, strings[name]), ...fields.map((field) => this.#field(field))),
    );
    const reset = textButton(strings.reset, () => this.#replace({}), { name: "undo" });
    $("settings-body").replaceChildren(this.#presetRow(), ...groups, reset);
    this.#update();
  }

  #set(key, value) {
    if (value === undefined) delete this.#settings[key];
    else this.#settings[key] = value;
    this.#update();
    this.#onChange({ ...this.#settings });
  }

  #replace(settings) {
    this.#settings = { ...settings };
    this.draw();
    this.#onChange({ ...this.#settings });
  }

  #update() {
    for (const redraw of this.#redraw) redraw();
  }

  #value(field) {
    return this.#settings[field.key] ?? standardOf(field, this.#face);
  }

  #presetRow() {
    const select = element("select", { id: "preset" });
    const name = element("input", { id: "preset-name", "aria-label": strings.presetName, placeholder: strings.presetName, maxLength: 60 });
    const save = () => {
      if (name.value.trim() === "") return name.focus();
      this.#presets.save(name.value.trim(), this.#settings);
      toast(strings.presetSaved(name.value.trim()));
      this.draw();
      $("preset").focus();
    };
    name.addEventListener("keydown", (event) => event.key === "Enter" && save());
    const remove = iconButton("trash", strings.presetDelete, () => {
      const gone = select.value;
      const settings = this.#presets.get(gone);
      this.#presets.remove(gone);
      this.draw();
      const bringBack = () => {
        this.#presets.save(gone, settings);
        this.draw();
      };
      toast(strings.presetDeleted, { label: strings.undo, run: bringBack });
    });
    select.addEventListener("change", () => this.#replace(select.value === OWN ? {} : this.#presets.get(select.value)));
    const option = (value, words) => element("option", { value }, words);
    this.#redraw.push(() => {
      const isOwn = Object.keys(this.#settings).length === 0;
      const current = isOwn ? OWN : (this.#presets.nameOf(this.#settings) ?? CHANGED);
      select.replaceChildren(
        option(OWN, strings.presetNone),
        ...this.#presets.names.map((each) => option(each, each)),
        ...(current === CHANGED ? [option(CHANGED, strings.presetChanged)] : []),
      );
      select.value = current;
      remove.hidden = current === OWN || current === CHANGED;
      saving.hidden = current !== CHANGED;
    });
    const saving = element("div", { className: "row" }, name, textButton(strings.presetSave, save, { name: "save" }));
    return element(
      "div",
      { className: "setting preset" },
      element("label", { for: "preset" }, strings.preset),
      element("div", { className: "row" }, select, remove),
      saving,
    );
  }

  #field(field) {
    const { key } = field;
    const id = `setting-${key}`;
    const name = strings[key];
    const reset = iconButton("undo", strings.resetOne(name), () => {
      this.#set(key, undefined);
      $(id).focus();
    });
    const help = element("p", { className: "help", id: `${id}-help` }, strings[`${key}Help`]);
    const control = this.#control(field, id);
    const head = element("div", { className: "row" }, element("label", { for: id }, name), reset);
    const root = element("div", { className: "setting" }, head, help, control);
    this.#redraw.push(() => {
      reset.hidden = this.#settings[key] === undefined;
      if (field.format) root.hidden = this.#value({ key: "format", kind: "choice", choices: {} }) !== field.format;
    });
    return root;
  }

  #control(field, id) {
    const described = { id, "aria-describedby": `${id}-help` };
    switch (field.kind) {
      case "range":
        return this.#range(field, described);
      case "number":
        return this.#number(field, described);
      case "choice":
        return this.#choice(field, described);
      default:
        return this.#area(field, described);
    }
  }

  #range(field, described) {
    // The slider offers what is usual, the box beside it takes whatever is allowed.
    const { minimum, maximum, usual_minimum: min = "", usual_maximum: max = "", step = "" } = numbersOf(field, this.#face);
    const slider = element("input", { type: "range", min, max, step, ...described });
    const limits = { min: minimum ?? "", max: maximum ?? "", step };
    const box = element("input", { type: "number", ...limits, "aria-label": strings[field.key], className: "value" });
    const take = ({ target }) => {
      const { valueAsNumber: value, validity } = target;
      const isAllowed = !Number.isNaN(value) && !validity.rangeUnderflow && !validity.rangeOverflow;
      if (isAllowed) this.#set(field.key, this.#unlessStandard(field, value));
    };
    slider.addEventListener("input", take);
    box.addEventListener("change", take);
    this.#redraw.push(() => {
      slider.value = box.value = this.#value(field);
    });
    return element("div", { className: "row range" }, slider, box);
  }

  #unlessStandard(field, value) {
    return value === standardOf(field, this.#face) ? undefined : value;
  }

  #number(field, described) {
    const { usual_minimum: min = "", maximum: max = "", step = "" } = numbersOf(field, this.#face);
    const box = element("input", { type: "number", min, max, step, placeholder: strings[`${field.key}Hint`], ...described });
    box.addEventListener("change", () => {
      const value = Math.trunc(box.valueAsNumber);
      const isAllowed = Number.isFinite(value) && value >= min && value <= max;
      this.#set(field.key, isAllowed ? this.#unlessStandard(field, value) : undefined);
    });
    this.#redraw.push(() => (box.value = this.#value(field) ?? ""));
    return box;
  }

  #choice(field, described) {
    const options = Object.entries(field.choices).map(([value, words]) => element("option", { value }, strings[words]));
    const select = element("select", described, ...options);
    select.addEventListener("change", () => this.#set(field.key, this.#unlessStandard(field, select.value)));
    this.#redraw.push(() => (select.value = this.#value(field)));
    return select;
  }

  #area(field, described) {
    const isLines = field.kind === "lines";
    const area = element("textarea", {
      rows: field.kind === "text" ? 4 : 3,
      placeholder: strings[`${field.key}Hint`] ?? "",
      dir: "auto",
      ...described,
    });
    const trouble = field.key === "schema" && element("p", { className: "help wrong", role: "alert", hidden: true }, strings.notJson);
    if (field.kind === "code") area.className = "code-area";
    area.addEventListener("input", () => {
      const value = isLines ? area.value.split("\n").filter((line) => line !== "") : area.value;
      const isFit = !trouble || value === "" || isJson(value);
      if (trouble) trouble.hidden = isFit;
      if (isFit) this.#set(field.key, this.#unlessStandard(field, value.length === 0 ? undefined : value));
    });
    this.#redraw.push(() => {
      if (document.activeElement === area) return; // what is being written stays as it is written
      const value = this.#value(field);
      area.value = isLines ? value.join("\n") : value;
    });
    return element("div", {}, area, trouble);
  }
}

/** How many settings a chat changes. */
export function numChanged(settings) {
  return FIELDS.filter(({ key }) => knownSettings(settings)[key] !== undefined).length;
}
