// The colours that most SPM programs show topography in, from dark to bright: 256 pixels.

const STOPS = [[0, 0, 0, 0], [88, 168, 40, 15], [175, 243, 194, 93], [255, 255, 255, 255]]; // as draw.py

const BYTES = Uint8ClampedArray.from({ length: 4 * 256 }, (_, index) => {
  const value = index >> 2, channel = index & 3;
  if (channel === 3) return 255;
  const upper = STOPS.findIndex((stop) => stop[0] >= value) || 1;
  const [a, b] = [STOPS[upper - 1], STOPS[upper]];
  return a[channel + 1] + ((b[channel + 1] - a[channel + 1]) * (value - a[0])) / (b[0] - a[0]);
});
export const COLOURS = new Uint32Array(BYTES.buffer);
