export { Bell } from "./bell.js";
export { Scan, Stage, swatch } from "./stage.js";
export { headline, share, clock, duration, scanWords } from "./words.js";
export { TEMPLATE } from "./template.js";
