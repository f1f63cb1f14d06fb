// As much of a document as formulas need: elements with children, attributes and text, shown as markup.

class Element {
  children = [];
  attributes = new Map();

  constructor(tag) {
    this.tag = tag;
  }

  append(...children) {
    this.children.push(...children);
  }

  setAttribute(name, value) {
    this.attributes.set(name, String(value));
  }

  get textContent() {
    return this.children.map((child) => (typeof child === "string" ? child : child.textContent)).join("");
  }

  toString() {
    const inside = this.children.map((child) => (typeof child === "string" ? escaped(child) : child)).join("");
    const attributes = [...this.attributes].map(([name, value]) => ` ${name}="${escaped(value)}"`).join("");
    return `<${this.tag}${attributes}>${inside}</${this.tag}>`;
  }
}

function escaped(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

export const document = { createElementNS: (_namespace, tag) => new Element(tag) };
