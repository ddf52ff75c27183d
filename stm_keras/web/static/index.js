export { Bell } from "./bell.js";
export { Scan, Stage, swatch } from "./stage.js";
export { headline, share, clock, duration, scanWords, verdictWords, capital } from "./words.js";
export { TEMPLATE } from "./template.js";
