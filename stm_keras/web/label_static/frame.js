// A scan as a rater looks at it: levelled and coloured here, as the rater likes.

import { COLOURS } from "stm-keras-watch/colours.js";

export const LEVELS = ["each line", "plane", "as recorded"];
export const CONTRASTS = [[0.02, 0.98], [0.1, 0.9], [0, 1]]; // of the heights, from dark to bright
const ENOUGH = 30011; // heights that tell how they are spread; a prime, so that no column is favoured
const CHANGE = "#38bdf8";

// Takes the least-squares straight line out of each row, or the plane out of all.
function level(heights, [rows, pixels], mode) {
  const values = Float64Array.from(heights);
  if (mode === "as recorded") return values;
  const middle = (pixels - 1) / 2, spread = (pixels * (pixels * pixels - 1)) / 12 || 1;
  const fits = [];
  for (let row = 0; row < rows; row += 1) {
    let mean = 0, slope = 0;
    for (let x = 0; x < pixels; x += 1) mean += values[row * pixels + x] / pixels;
    for (let x = 0; x < pixels; x += 1) slope += ((x - middle) * values[row * pixels + x]) / spread;
    fits.push([mean, slope]);
  }
  let [offset, across, along] = [0, 0, 0];
  if (mode === "plane") {
    const good = fits.flatMap(([mean, slope], row) => (Number.isFinite(mean) ? [[row, mean, slope]] : []));
    const count = good.length || 1;
    const centre = good.reduce((sum, [row]) => sum + row, 0) / count;
    offset = good.reduce((sum, [, mean]) => sum + mean, 0) / count;
    across = good.reduce((sum, [, , slope]) => sum + slope, 0) / count;
    const square = good.reduce((sum, [row]) => sum + (row - centre) ** 2, 0) || 1;
    along = good.reduce((sum, [row, mean]) => sum + (row - centre) * (mean - offset), 0) / square;
    offset -= along * centre;
  }
  for (let row = 0; row < rows; row += 1) {
    const [mean, slope] = mode === "plane" ? [offset + along * row, across] : fits[row];
    for (let x = 0; x < pixels; x += 1) values[row * pixels + x] -= mean + slope * (x - middle);
  }
  return values;
}

export class Frame {
  constructor(text, shape) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    this.heights = new Float32Array(bytes.buffer);
    this.shape = shape;
  }

  // Returns a canvas with a pixel for each of the scan, clear where nothing was recorded.
  paint(mode, [low, high]) {
    const [rows, pixels] = this.shape;
    const values = level(this.heights, this.shape, mode);
    const skip = Math.ceil(values.length / ENOUGH);
    const sorted = values.filter((value, index) => Number.isFinite(value) && index % skip === 0).sort();
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
    const [dark, bright] = [at(low), at(high)];
    const canvas = Object.assign(document.createElement("canvas"), { width: pixels, height: rows });
    const context = canvas.getContext("2d");
    const image = context.createImageData(pixels, rows);
    const words = new Uint32Array(image.data.buffer);
    values.forEach((value, index) => {
      if (!Number.isFinite(value)) return;
      const share = bright > dark ? (value - dark) / (bright - dark) : 0.5;
      words[index] = COLOURS[Math.round(255 * Math.min(1, Math.max(0, share)))];
    });
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // Draws itself on a canvas of the page, with the rows at which another tip begins.
  show(canvas, painted, width, height, marks) {
    const dots = window.devicePixelRatio || 1;
    Object.assign(canvas, { width: Math.round(width * dots), height: Math.round(height * dots) });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(painted, 0, 0, canvas.width, canvas.height);
    for (const { share, chosen } of marks) {
      const y = Math.round(share * canvas.height);
      context.lineWidth = (chosen ? 3 : 2) * dots;
      context.setLineDash(chosen ? [] : [7 * dots, 4 * dots]);
      for (const [colour, shift] of [["#000000", 2 * dots], [CHANGE, 0]]) {
        context.strokeStyle = colour;
        context.beginPath();
        context.moveTo(0, y + shift);
        context.lineTo(canvas.width, y + shift);
        context.stroke();
      }
      context.setLineDash([]);
    }
  }
}
