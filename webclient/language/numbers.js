// Numbers as a language writes them: what its words take in, and those that need no words. Pure.

export function numbersIn(language) {
  const number = (value, options) => new Intl.NumberFormat(language, options).format(value);
  const unit = (name, value, digits) => number(value, { style: "unit", unit: name, maximumFractionDigits: digits });
  const size = (bytes) => {
    if (bytes < 1e6) return unit("kilobyte", bytes / 1e3, 0);
    return bytes < 1e9 ? unit("megabyte", bytes / 1e6, 0) : unit("gigabyte", bytes / 1e9, 1);
  };
  const formats = {
    size,
    short: (value) => number(value, { notation: "compact", maximumFractionDigits: 1 }),
    percent: (fraction) => number(fraction, { style: "percent" }),
    chanceOf: (chance) => number(chance, { style: "percent", maximumFractionDigits: 1 }),
  };
  return { number, formats };
}
