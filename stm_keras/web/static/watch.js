// The page of `stm-keras watch`. What it shows comes by `push`; what it missed, from /api/view.

import { Bell, Scan, Stage, TEMPLATE, capital, clock, duration, headline, scanWords, share, swatch, verdictWords } from "stm-keras-watch";

const TICK = 250; // ms between two looks at the clock
const TOAST = 8000; // ms that a message stays
const NAME = "stm-keras-name";
const SEEN = "stm-keras-seen"; // when the last alarm was raised that somebody has seen
const LISTED = 500; // scans, as many as the program tells
const KEPT = 4096; // drawn lines of which the times are kept, for tests

export default {
  template: `<div>${TEMPLATE}</div>`,

  data: () => ({
    state: null, scans: [], run: {}, colours: [], others: {},
    number: null, // of the last message
    viewed: null, looking: false, direction: "forward", both: false, shown: "",
    heard: performance.now(), now: performance.now(),
    muted: false, silent: true, permission: "missing", unseen: false,
    asked: null, who: localStorage.getItem(NAME) ?? "", pointed: "", toast: "",
  }),

  created() {
    this.bell = new Bell();
    this.muted = this.bell.muted;
    this.rang = 0; // when the last alarm was raised for which it rang, in ms since 1970
    this.fetching = false;
    this.queue = [];
    this.current = null; // `Scan` that runs, or ran last
    this.scan = null; // `Scan` that is shown
    this.fresh = []; // lines that are not drawn yet
    this.known = new Set(); // lines of which the time is noted
    window.__stm = { lines: [], state: null, rung: 0 };
  },

  mounted() {
    this.timer = setInterval(this.tick, TICK);
    addEventListener("keydown", this.key);
    addEventListener("resize", this.fit);
    document.addEventListener("visibilitychange", this.drawSoon);
    this.fetchAll();
  },

  unmounted() {
    clearInterval(this.timer);
    removeEventListener("keydown", this.key);
    removeEventListener("resize", this.fit);
    document.removeEventListener("visibilitychange", this.drawSoon);
  },

  computed: {
    unheard() { return Math.max(0, (this.now - this.heard) / 1000); },
    age() { return this.state.last_line ? this.state.last_line.age_s + this.unheard : null; },
    banner() { return headline(this.state, this.unheard, this.age); },
    alarms() { return this.state.alarms; },
    alive() { return this.banner.level !== "lost" && this.banner.level !== "idle" && !this.late; },
    late() { return this.banner.level.includes("stale") || this.banner.level === "lost"; },
    even() { return Math.floor(this.now / 1000) % 2 === 0; }, // a dot that beats; an animation would paint all day
    linkWords() {
      const line = this.age === null ? "no line yet" : `last line ${duration(this.age)} ago`;
      return this.state.source ? `${this.state.source}: ${line}` : capital(line);
    },
    tipShares() { return this.state.classes.map((name) => this.state.tip?.probabilities?.[name]); },
    scanShares() { return this.state.classes.map((name) => this.state.scan?.probabilities?.[name]); },
    newest() { return [...this.scans].reverse(); },
    row() { return this.scans.find((scan) => scan.number === this.viewed); },
    askedRow() { return this.scans.find((scan) => scan.number === this.asked); },
    choices() { return [...this.state.classes, "none of these"]; },
    looks() {
      const looks = this.colours.map((colour, index) => ({ backgroundImage: `url(${swatch(index, colour).toDataURL()})` }));
      looks.unsure = { background: `repeating-linear-gradient(-45deg, ${this.others.unsure} 0 2px, transparent 2px 4px)` };
      const purple = this.others["unknown surface"];
      looks.unknown = { background: `repeating-linear-gradient(45deg, ${purple} 0 1.5px, transparent 1.5px 4px), repeating-linear-gradient(-45deg, ${purple} 0 1.5px, transparent 1.5px 4px)` };
      return looks;
    },
    frameWords() {
      const angle = this.shown && this.scan?.record.frame?.angle;
      const turned = angle ? `, frame turned by ${Number(angle.toFixed(1))}° clockwise` : "";
      return this.row ? this.row.frame + turned : "";
    },
    rowName() {
      const name = this.row?.path ? this.row.path.split(/[\\/]/).pop() : this.row?.name;
      return name && !/^scan \d+$/.test(name) ? name : "";
    },
    pictureWords() { return this.row ? `${scanWords(this.row)}${this.row.reason ? `; ${this.row.reason}` : ""}` : ""; },
    facts() {
      const { settings = {}, model } = this.run;
      const facts = [["source", this.run.source], ["model", model?.name ?? model], ["version", this.run.version ?? this.run.versions?.stm_keras]];
      const words = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
      const used = Object.entries(settings).filter(([, value]) => value !== null && value !== "" && value !== false && String(value) !== "");
      return [...facts.filter(([, value]) => value), ...used].map(([name, value]) => [name.replaceAll("_", " "), words(value)]);
    },
  },

  methods: {
    share, clock, scanWords, verdictWords,

    look_of(verdict) {
      const index = this.state.classes.indexOf(verdict);
      if (index >= 0) return this.looks[index];
      return verdict === "unsure" ? this.looks.unsure : verdict?.startsWith("unknown") ? this.looks.unknown : { display: "none" };
    },

    meter(index, p) { return { width: `${100 * (p ?? 0)}%`, ...this.looks[index] }; },

    async fetchAll() {
      if (this.fetching) return;
      this.fetching = true;
      try {
        const answer = await fetch("api/view", { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        const view = await answer.json();
        const { number, state, scans, run, record, lines, colours, no_class } = view;
        Object.assign(this, { number, scans, run, colours, others: no_class, heard: performance.now() });
        this.hear(state);
        this.current = view.scan === null ? null : new Scan(view.scan, record, lines);
        this.fresh = [];
        for (const line of lines) this.time(view.scan, line);
        await this.$nextTick();
        if (!this.looking) this.live();
        this.queue.filter((message) => message.number > number).forEach(this.take);
      } catch (error) {
        setTimeout(this.fetchAll, 1000);
      } finally {
        this.queue = [];
        this.fetching = false;
      }
    },

    // A message of the program, as JSON.
    push(text) {
      const message = JSON.parse(text);
      if (this.fetching) this.queue.push(message);
      else if (message.number <= this.number) return; // older than what was fetched
      else if (message.number !== this.number + 1) this.fetchAll();
      else this.take(message);
    },

    take({ number, state, lines, events, scans }) {
      this.number = number;
      this.heard = this.now = performance.now();
      events.forEach(this.happened);
      for (const line of lines) {
        if (line.scan !== this.current?.number) return this.fetchAll();
        this.current.add(line);
        this.time(line.scan, line);
      }
      for (const scan of scans) {
        const index = this.scans.findIndex((each) => each.number === scan.number);
        index < 0 ? this.scans.push(scan) : this.scans.splice(index, 1, scan);
      }
      this.scans.splice(0, this.scans.length - LISTED);
      this.hear(state);
      if (lines.length && this.scan === this.current) this.update(state.scan);
      if (lines.length) this.drawSoon();
    },

    hear(state) {
      this.state = window.__stm.state = state;
      if (this.current) this.current.running = Boolean(state.scan?.running && state.scan.number === this.current.number);
      this.lookAtAlarms();
      const worst = state.alarms.find((alarm) => alarm.rule === "bad tip") ?? state.alarms[0];
      document.title = worst ? `✕ ${worst.rule} – stm-keras` : `${this.banner.title} – stm-keras`;
    },

    // The list's row of the scan that runs, of which no message tells line by line.
    update(scan) {
      const row = this.scans.find((each) => each.number === scan?.number);
      if (row) Object.assign(row, { lines: scan.lines_done, verdict: scan.verdict, confidence: scan.confidence, now: this.state.tip?.verdict ?? null, changes: scan.changes });
    },

    happened(record) {
      if (record.event === "scan") {
        this.current = new Scan(record.id, record);
        if (!this.looking) this.live();
      } else if (record.event === "label") {
        this.say(`Written down: scan ${record.scan} is ${record.class}.`);
      } else if (record.event === "note") {
        this.say(record.text);
      }
    },

    // Note when a line is drawn for the first time.
    time(scan, { line, direction, sent }) {
      const key = `${scan} ${direction} ${line}`;
      if (this.known.has(key)) return;
      this.known.add(key);
      this.fresh.push({ key, scan, line, direction, sent });
      for (const old of this.fresh.splice(0, this.fresh.length - KEPT)) this.known.delete(old.key);
    },

    // At once, as a browser has tabs in the background wait a second for a frame; but a tab that
    // nobody sees draws nothing until somebody does.
    drawSoon() { if (!document.hidden) this.draw(); },

    draw() {
      if (this.scan === this.current && this.stage) {
        if (this.stage.scan !== this.scan) return; // `show` draws it, in a moment
        this.both = ["forward", "backward"].every((way) => this.scan.ways[way].length);
        this.stage.draw();
      }
      const drawn = Date.now();
      for (const line of this.fresh) window.__stm.lines.push(Object.assign(line, { drawn }));
      for (const line of window.__stm.lines.splice(0, window.__stm.lines.length - KEPT)) this.known.delete(line.key);
      this.fresh = [];
    },

    // Show a scan, that of now or an earlier one.
    show(scan) {
      this.scan = scan;
      this.viewed = scan?.number ?? null;
      if (!scan) return;
      const { forward, backward } = scan.ways;
      this.both = forward.length > 0 && backward.length > 0;
      if (!scan.ways[this.direction].length) this.direction = backward.length && !forward.length ? "backward" : "forward";
      this.$nextTick(() => {
        this.stage ??= new Stage(this.$refs.picture, this.$refs.shares, this.room, this.state.classes, this.colours, this.others);
        this.stage.show(scan, this.direction);
        this.shown = `${scan.number} ${this.direction}`;
        this.drawSoon();
      });
    },

    room() {
      const stage = this.$refs.picture.parentElement;
      const beside = getComputedStyle(stage).flexDirection === "row" ? parseFloat(getComputedStyle(this.$refs.shares).minWidth) + 12 : 0;
      return [stage.clientWidth - beside, Math.max(240, innerHeight - stage.getBoundingClientRect().top - scrollY - 60)];
    },

    // Take the room that there is; what is above the picture comes and goes.
    fit() {
      if (!this.stage?.scan) return;
      const room = this.room().join();
      if (room !== this.fitted) this.stage.fit();
      this.fitted = room;
    },

    live() {
      this.looking = false;
      this.show(this.current);
    },

    async look(row) {
      if (!row?.kept) return;
      if (row.number === this.current?.number) return this.live();
      const answer = await fetch(`api/scans/${row.number}`);
      if (!answer.ok) return this.say(`The lines of scan ${row.number} are not kept any more.`);
      const { scan, lines } = await answer.json();
      this.looking = true;
      this.show(new Scan(row.number, scan, lines));
    },

    step(by) {
      const kept = this.scans.filter((scan) => scan.kept);
      const index = kept.findIndex((scan) => scan.number === this.viewed);
      if (kept[index + by]) this.look(kept[index + by]);
    },

    turn() {
      if (!this.both) return;
      this.direction = this.direction === "forward" ? "backward" : "forward";
      this.stage.show(this.scan, this.direction);
    },

    point(event) {
      const line = this.stage?.lineAt(event.offsetY);
      if (!line) { this.pointed = ""; return; }
      const verdict = line.lost ? "lost" : line.now ?? "no verdict yet";
      const shares = (line.tip ?? []).map((p, index) => `${this.state.classes[index]} ${share(p)}`).join(", ");
      this.pointed = `line ${line.line} (row ${line.row}): ${verdict}${shares && !line.lost ? ` – ${shares}` : ""}`;
    },

    mute() {
      this.bell.mute(!this.muted);
      this.muted = this.bell.muted;
    },

    async ask() {
      await Notification.requestPermission();
      this.permission = this.bell.permission;
    },

    // Ring for those that are new, however this tab learned of them.
    lookAtAlarms() {
      const times = this.alarms.map((alarm) => Date.parse(alarm.t));
      this.unseen = times.some((time) => time > Number(localStorage.getItem(SEEN)));
      const fresh = this.alarms.filter((_, index) => times[index] > this.rang && this.unseen);
      this.rang = Math.max(this.rang, ...times);
      for (const { rule, class: name, p, scan } of fresh) {
        this.bell.ring(rule);
        this.bell.notify(`stm-keras: ${rule}`, [name ? `${name} ${share(p)}` : "", scan ? `scan ${scan}` : ""].filter(Boolean).join(", "));
      }
      window.__stm.rung = this.bell.rung;
    },

    // In all tabs of this browser.
    seen() {
      localStorage.setItem(SEEN, this.rang);
      this.lookAtAlarms();
    },

    disagree() {
      if (!this.viewed) return;
      this.asked = this.viewed;
      this.$refs.ask.showModal();
      this.$refs.ask.querySelector("button").focus();
    },

    answer(event) {
      if (event.target.tagName === "INPUT" || !/^[0-9]$/.test(event.key)) return;
      const digit = Number(event.key);
      const name = this.choices[digit === 0 ? this.choices.length - 1 : digit - 1];
      if (name && digit < this.choices.length) this.label(name);
    },

    label(name) {
      localStorage.setItem(NAME, this.who);
      this.$emit("label", { scan: this.asked, class: name, who: this.who });
      this.$refs.ask.close();
      this.say("Is being written down …");
    },

    refuse(text) { this.say(text); },

    say(text) {
      this.toast = text;
      clearTimeout(this.toasting);
      this.toasting = setTimeout(() => { this.toast = ""; }, TOAST);
    },

    tick() {
      this.now = performance.now();
      this.silent = this.bell.silent;
      this.permission = this.bell.permission;
      this.fit();
      this.muted = this.bell.muted;
      if (!this.state) return;
      this.lookAtAlarms();
      if (this.unseen) this.bell.ringAgain(this.alarms[0].rule);
      window.__stm.rung = this.bell.rung;
    },

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.state) return;
      if (document.querySelector("dialog[open]") || /INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) return;
      const actions = {
        d: this.disagree, s: this.seen, m: this.mute, b: this.turn, "?": () => this.$refs.help.showModal(),
        n: () => { if (this.permission === "default") this.ask(); },
        Escape: this.live, ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1),
      };
      const action = actions[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    },
  },
};
