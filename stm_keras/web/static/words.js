// What the page says in words, from the state as the program tells it.

const SILENT = 3.5; // s without a word from the program
const STALE = 10; // s without a line while a scan runs, and at least six lines long

export const clock = (text) => (text ? text.slice(11, 19) : "");
const SIGNALS = { SIGINT: "ended by Ctrl-C", SIGTERM: "ended by a signal", SIGBREAK: "ended by Ctrl-Break" };
export const share = (p) => (p === null || p === undefined ? "" : `${Math.round(100 * p)} %`);

export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

// How many lines there are.
const counted = (lines) => `${lines} line${lines === 1 ? "" : "s"}`;

// The verdict on a scan, and where it is a class, how sure it is.
export const verdictWords = (scan) => [scan.verdict ?? "no verdict yet", share(scan.confidence)].filter(Boolean).join(" ");

export function scanWords(scan) {
  const lines = scan.planned ? `${scan.lines} of ${counted(scan.planned)}` : counted(scan.lines);
  const changes = scan.changes.length
    ? `tip change at line ${scan.changes.join(", ")}`
    : "no tip change";
  return `${lines}, ${changes}`;
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Returns what the banner shows: level (its look), mark, title, text, p.
export function headline(state, unheard, age) {
  const connection = state.connection;
  const reason = `${connection.text.replace(/\.$/, "")}${connection.since ? `, since ${clock(connection.since)}` : ""}`;
  if (connection.state === "ended") {
    const text = `${SIGNALS[connection.text] ?? connection.text.replace(/\.$/, "")}, ${clock(connection.since)}`;
    return { level: "idle", mark: "–", title: "The watching has ended", text };
  }
  if (unheard > SILENT) {
    const text = `No answer for ${duration(unheard)}: nothing on this page is of now. It goes on by itself.`;
    return { level: "lost", mark: "!", title: "The program does not answer", text };
  }
  if (connection.state !== "watching") {
    return { level: "lost", mark: "!", title: "No connection to the microscope", text: reason };
  }
  const scan = state.scan;
  if (!scan) {
    return { level: "idle", mark: "…", title: "Waiting for a scan", text: connection.text };
  }
  const tip = state.tip;
  if (!tip) {
    const text = `${counted(scan.lines_done)} of scan ${scan.number} so far; a verdict needs more.`;
    return { level: "idle", mark: "…", title: "No verdict yet", text };
  }
  const limit = Math.max(STALE, 6 * (scan.line_time ?? 0));
  const since = state.since;
  const when = `since ${clock(since.t)} (scan ${since.scan}, line ${since.line})`;
  const said = judged(tip, state.bad, when);
  if (scan.running && age > limit) {
    return {
      ...said, level: `${said.level} stale`, text: `No line for ${duration(age)}: this is what was last seen, ${clock(state.last_line.t)}.`,
    };
  }
  if (!scan.running) said.text += `. No scan runs; the last line came ${duration(age ?? 0)} ago`;
  return said;
}

function judged(tip, bad, when) {
  const p = tip.confidence;
  if (tip.bad) return { level: "bad", mark: "✕", title: capital(tip.verdict), tag: "bad tip", text: when, p };
  if (tip.verdict === tip.class) return { level: "good", mark: "✓", title: capital(tip.verdict), text: when, p };
  if (tip.verdict === "unsure") {
    const perhaps = `Perhaps ${tip.class}, ${share(p)}; not sure enough to say, ${when}`;
    return { level: "unsure", mark: "?", title: "Unsure", text: perhaps };
  }
  const texts = {
    "unknown surface": "The model does not know this surface: no verdict on the tip, ",
    "unknown size": "The model was not trained on scans of this size: no verdict on the tip, ",
  };
  return { level: "unknown", mark: "◇", title: capital(tip.verdict), text: (texts[tip.verdict] ?? "") + when };
}
