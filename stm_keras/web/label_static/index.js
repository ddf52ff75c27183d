export { Frame, CONTRASTS, LEVELS } from "./frame.js";
