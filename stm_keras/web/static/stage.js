// A scan for the eye: its picture, and beside each row what the tip was said to be.

import { COLOURS } from "./colours.js";

const DRIFT = 0.04; // share of the range by which it may be off until all rows are drawn again
const STRIP = 16, GAP = 5; // px of the strip of verdicts, and beside it
const VAGUE = 0.4; // how strongly shares are painted where no class is named
const CHUNK = 32; // rows, at least, by which a picture grows where nobody said how many there will be
const CHANGE = "#38bdf8";

function decode(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// The lines of a scan, by direction, in the order in which they came.
export class Scan {
  constructor(number, record, lines = []) {
    this.number = number;
    this.record = record;
    this.ways = { forward: [], backward: [] };
    this.changes = { forward: [], backward: [] };
    for (const line of lines) this.add(line);
  }

  add(line) {
    const way = this.ways[line.direction];
    if (line.heights) line.heights = decode(line.heights);
    way.push(line);
    const changes = this.changes[line.direction];
    if (line.change_line !== null && !changes.includes(line.change_line)) changes.push(line.change_line);
  }

  get up() {
    if (this.record.slow) return this.record.slow === "up";
    const way = this.ways.forward.length ? this.ways.forward : this.ways.backward;
    return way.length > 1 && way[1].row < way[0].row;
  }

  rows(direction) {
    const top = this.ways[direction].reduce((most, line) => Math.max(most, line.row + 1), 1);
    // by a quarter at most: each time all rows are drawn again
    const chunk = CHUNK * 2 ** Math.max(0, Math.floor(Math.log2(top / CHUNK)) - 2);
    return Math.max(this.record.lines ?? chunk * Math.ceil(top / chunk), top);
  }

  pixels(direction) {
    return this.ways[direction].find((line) => line.heights)?.heights.length ?? this.record.pixels ?? 1;
  }

  // Width over height, of the frame in nm where it is known.
  ratio(direction) {
    const size = this.record.frame?.size;
    const ratio = size ? size[0] / size[1] : (this.record.pixels ?? this.pixels(direction)) / this.rows(direction);
    return Math.min(Math.max(ratio, 0.1), 10);
  }
}

// A small canvas in the look of a class: its colour, and a pattern for eyes that see no colour.
export function swatch(index, colour) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
  const context = canvas.getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 8, 8);
  context.strokeStyle = context.fillStyle = "rgba(0, 0, 0, 0.55)";
  context.lineWidth = 1.6;
  context.beginPath();
  if (index % 4 === 1) [[-2, 6, 6, -2], [2, 10, 10, 2]].forEach(([a, b, c, d]) => { context.moveTo(a, b); context.lineTo(c, d); });
  if (index % 4 === 2) context.rect(2, 2, 2.5, 2.5);
  if (index % 4 === 3) [[0, 0, 8, 8], [8, 0, 0, 8]].forEach(([a, b, c, d]) => { context.moveTo(a, b); context.lineTo(c, d); });
  index % 4 === 2 ? context.fill() : context.stroke();
  return canvas;
}

function hatch(colour, cross) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 6, height: 6 });
  const context = canvas.getContext("2d");
  context.strokeStyle = colour;
  context.lineWidth = 1.4;
  context.beginPath();
  [[-1, 4, 4, -1], [2, 7, 7, 2]].forEach(([a, b, c, d]) => { context.moveTo(a, b); context.lineTo(c, d); });
  if (cross) [[-1, 2, 4, 7], [2, -1, 7, 4]].forEach(([a, b, c, d]) => { context.moveTo(a, b); context.lineTo(c, d); });
  context.stroke();
  return canvas;
}

// Draws a `Scan` on two canvases of the same height: the picture, and the shares of the classes.
export class Stage {
  constructor(picture, shares, room, names, colours, others) {
    Object.assign(this, { picture, shares, room, names, others });
    this.ink = picture.getContext("2d");
    this.bars = shares.getContext("2d");
    this.fills = colours.map((colour, index) => this.bars.createPattern(swatch(index, colour), "repeat"));
    this.unsure = this.bars.createPattern(hatch(others.unsure, false), "repeat");
    this.unknown = this.bars.createPattern(hatch(others["unknown surface"], true), "repeat");
    this.whole = document.createElement("canvas"); // a pixel of it for each of the scan
    this.pen = this.whole.getContext("2d");
    this.scan = null;
    this.direction = "forward";
  }

  show(scan, direction) {
    Object.assign(this, { scan, direction, drawn: 0, range: null });
    this.fit();
  }

  // Take the size that the room gives, and draw everything.
  fit() {
    if (!this.scan) return;
    const ratio = this.scan.ratio(this.direction);
    const [wide, high] = this.room();
    const width = Math.max(40, Math.floor(Math.min(wide, high * ratio)));
    const height = Math.max(40, Math.floor(width / ratio));
    const dots = window.devicePixelRatio || 1;
    this.picture.style.width = `${width}px`; // which leaves the rest to the shares
    for (const [canvas, across] of [[this.picture, width], [this.shares, this.shares.clientWidth]]) {
      canvas.width = Math.round(across * dots);
      canvas.height = Math.round(height * dots);
      canvas.style.height = `${height}px`;
    }
    this.dots = dots;
    this.redraw();
  }

  redraw() {
    const rows = this.scan.rows(this.direction), pixels = this.scan.pixels(this.direction);
    Object.assign(this.whole, { width: pixels, height: rows });
    this.bars.clearRect(0, 0, this.shares.width, this.shares.height);
    this.drawn = 0;
    this.range = this.scan.ways[this.direction].at(-1)?.range ?? null;
    this.draw();
  }

  // Draw the lines that were not drawn yet.
  draw() {
    const lines = this.scan.ways[this.direction];
    const last = lines.at(-1);
    if (last && (this.outgrown(last) || this.drifted(last.range))) {
      this.range = last.range;
      Object.assign(this.whole, { width: this.scan.pixels(this.direction), height: this.scan.rows(this.direction) });
      this.bars.clearRect(0, 0, this.shares.width, this.shares.height);
      this.drawn = 0;
    }
    for (; this.drawn < lines.length; this.drawn += 1) {
      this.drawRow(lines[this.drawn]);
      this.drawShares(lines[this.drawn]);
    }
    this.ink.imageSmoothingEnabled = false;
    this.ink.clearRect(0, 0, this.picture.width, this.picture.height);
    this.ink.drawImage(this.whole, 0, 0, this.picture.width, this.picture.height);
    this.drawMarks(last);
  }

  outgrown(line) {
    return line.row >= this.whole.height || (line.heights && line.heights.length !== this.whole.width);
  }

  drifted(range) {
    if (!range) return false;
    if (!this.range) return true;
    const width = this.range[1] - this.range[0];
    return Math.max(Math.abs(range[0] - this.range[0]), Math.abs(range[1] - this.range[1])) > DRIFT * width;
  }

  drawRow(line) {
    if (!line.heights) {
      this.pen.clearRect(0, line.row, this.whole.width, 1);
      return;
    }
    const row = this.pen.createImageData(line.heights.length, 1);
    const words = new Uint32Array(row.data.buffer);
    const [low, high] = this.range;
    for (let x = 0; x < line.heights.length; x += 1) {
      const value = Math.min(255, Math.max(0, Math.round((255 * (line.heights[x] - low)) / (high - low))));
      words[x] = COLOURS[value];
    }
    this.pen.putImageData(row, 0, line.row);
  }

  // The top of a row on the canvases, in their pixels.
  edge(row) {
    return Math.round((row * this.picture.height) / this.whole.height);
  }

  drawShares(line) {
    const top = this.edge(line.row), height = Math.max(1, this.edge(line.row + 1) - top);
    const strip = STRIP * this.dots, left = strip + GAP * this.dots;
    const width = this.shares.width - left;
    this.bars.clearRect(0, top, this.shares.width, height);
    const named = this.names.indexOf(line.now);
    const fill = named >= 0 ? this.fills[named] : line.now === "unsure" ? this.unsure : this.unknown;
    if (line.now) {
      this.bars.fillStyle = fill;
      this.bars.fillRect(0, top, strip, height);
    }
    if (!line.tip || line.lost) return;
    this.bars.globalAlpha = named >= 0 ? 1 : VAGUE;
    let x = left;
    line.tip.forEach((p, index) => {
      this.bars.fillStyle = this.fills[index];
      this.bars.fillRect(x, top, p * width, height);
      x += p * width;
    });
    this.bars.globalAlpha = 1;
  }

  // Tip changes, where the scan is now, and the scale bar.
  drawMarks(last) {
    const dots = this.dots;
    const up = this.scan.up;
    for (const number of this.scan.changes[this.direction]) {
      const row = this.scan.ways[this.direction].find((line) => line.line === number)?.row;
      if (row === undefined) continue;
      const y = this.edge(up ? row + 1 : row);
      for (const [context, width] of [[this.ink, this.picture.width], [this.bars, this.shares.width]]) {
        context.setLineDash([7 * dots, 4 * dots]);
        context.lineWidth = 2 * dots;
        for (const [colour, shift] of [["#000000", 0], [CHANGE, 7 * dots]]) {
          context.strokeStyle = colour;
          context.lineDashOffset = shift;
          context.beginPath();
          context.moveTo(0, y);
          context.lineTo(width, y);
          context.stroke();
        }
        context.setLineDash([]);
      }
      this.label(`tip change, line ${number}`, 6 * dots, up ? y - 6 * dots : y + 17 * dots);
    }
    if (last && this.scan.running) {
      const y = this.edge(last.row + 0.5), size = 7 * dots;
      this.ink.fillStyle = CHANGE;
      for (const x of [0, this.picture.width]) {
        this.ink.beginPath();
        this.ink.moveTo(x, y - size);
        this.ink.lineTo(x === 0 ? size : x - size, y);
        this.ink.lineTo(x, y + size);
        this.ink.fill();
      }
    }
    this.scale();
  }

  label(text, x, y, align = "left") {
    this.ink.font = `600 ${12 * this.dots}px system-ui, sans-serif`;
    this.ink.textAlign = align;
    this.ink.lineWidth = 3 * this.dots;
    this.ink.lineJoin = "round";
    this.ink.strokeStyle = "rgba(0, 0, 0, 0.8)";
    this.ink.fillStyle = "#ffffff";
    this.ink.strokeText(text, x, y);
    this.ink.fillText(text, x, y);
  }

  scale() {
    const size = this.scan.record.frame?.size;
    if (!size || !(size[0] > 0)) return;
    const nm = 1e9 * size[0];
    const step = 10 ** Math.floor(Math.log10(nm / 4));
    const length = [5, 2, 1].map((each) => each * step).find((each) => each <= nm / 4) ?? step;
    const dots = this.dots, width = (length / nm) * this.picture.width;
    const x = this.picture.width - width - 10 * dots, y = this.picture.height - 10 * dots;
    this.ink.fillStyle = "rgba(0, 0, 0, 0.8)";
    this.ink.fillRect(x - 2 * dots, y - 5 * dots, width + 4 * dots, 8 * dots);
    this.ink.fillStyle = "#ffffff";
    this.ink.fillRect(x, y - 3 * dots, width, 4 * dots);
    this.label(`${Number(length.toPrecision(2))} nm`, x + width / 2, y - 9 * dots, "center");
  }

  // The line at a height of the canvas, in CSS pixels from its top.
  lineAt(y) {
    const row = Math.floor((y * this.dots * this.whole.height) / this.picture.height);
    return this.scan?.ways[this.direction].findLast((line) => line.row === row) ?? null;
  }
}
