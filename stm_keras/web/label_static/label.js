// The page of `stm-keras label`: digits set marks, Enter saves and shows the next picture.

import { markRaw } from "vue";

import { CONTRASTS, Frame, LEVELS } from "stm-keras-label";

const KEPT = 4; // pictures that were shown, to go back to at once

const TEMPLATE = `
<div class="page label" v-if="picture || finished">
  <header>
    <h1>{{ finished ? 'All pictures are labelled' : picture.name }}</h1>
    <p>{{ progress.rater }}: {{ progress.done }} of {{ progress.total }}
      <progress :value="progress.done" :max="progress.total"></progress></p>
  </header>
  <p class="error" role="alert" v-if="error && finished">{{ error }}</p>
  <main v-if="!finished">
    <section aria-label="Scan" ref="stage" class="stage">
      <canvas ref="forward" role="img" :aria-label="picture.name" @click="choose" @pointermove="follow"></canvas>
      <canvas ref="backward" role="img" aria-label="backward" v-show="beside && both"></canvas>
    </section>
    <aside ref="aside">
      <p class="error" role="alert" v-if="error">{{ error }}</p>
      <p class="caption">{{ picture.frame }}<template v-if="picture.lines < picture.shape[0]">, {{ picture.lines }} lines recorded</template></p>
      <p class="caption" v-if="picture.model">The model says: {{ picture.model }}</p>
      <h2>{{ segments.length > 1 ? 'Marks from line ' + segments[active].from + ' on' : 'Marks' }}</h2>
      <div class="marks" role="group">
        <button type="button" v-for="mark in progress.marks" :key="mark.name" :aria-pressed="has(mark.name)" @click="toggle(mark.name)">
          <kbd v-if="mark.key">{{ mark.key }}</kbd><span class="box" aria-hidden="true">{{ has(mark.name) ? '✓' : '' }}</span>
          <span>{{ mark.name }}<small v-if="mark.help">{{ mark.help }}</small></span>
        </button>
        <button type="button" :aria-pressed="unsure" @click="doubt"><kbd>?</kbd><span class="box" aria-hidden="true">{{ unsure ? '✓' : '' }}</span><span>not sure</span></button>
      </div>
      <div class="parts" v-if="segments.length > 1">
        <button type="button" v-for="(part, index) in segments" :key="part.from" :aria-pressed="index === active" @click="active = index">
          from line {{ part.from }}: {{ part.marks.join(', ') || 'no mark' }}</button>
        <button type="button" @click="join">One tip after all <kbd>Delete</kbd></button>
      </div>
      <p class="caption" v-if="cutting">Where does another tip begin? Click, or move the line with ↑ ↓ (Shift: by 10), then Enter. Esc: not at all.</p>
      <div class="actions">
        <button type="button" class="main" @click="enter">{{ cutting ? 'Here' : 'Save, next' }} <kbd>Enter</kbd></button>
        <button type="button" @click="back" :disabled="previous === undefined">Back <kbd>Backspace</kbd></button>
        <button type="button" @click="cut" :aria-pressed="cutting">Another tip <kbd>c</kbd></button>
        <button type="button" @click="turn('contrast', 3)">Contrast {{ contrast + 1 }} <kbd>x</kbd></button>
        <button type="button" @click="turn('level', 3)">Levelled: {{ levels[level] }} <kbd>f</kbd></button>
        <button type="button" @click="beside = !beside; draw()" :disabled="!both">Backward <kbd>b</kbd></button>
        <button type="button" @click="$refs.help.showModal()">Help <kbd>h</kbd></button>
      </div>
      <details><summary>How many of each so far</summary>
        <dl class="facts"><template v-for="(count, name) in progress.counts" :key="name"><dt>{{ name }}</dt><dd>{{ count }}</dd></template></dl>
      </details>
    </aside>
  </main>
  <p v-else class="caption">Close this page and end the program with Ctrl-C. <button type="button" @click="back">Back to the last <kbd>Backspace</kbd></button></p>
  <dialog ref="help" aria-labelledby="help-title">
    <h2 id="help-title">What to do</h2>
    <p>Set every mark that fits: several may be set together. {{ progress.rule }} If you cannot say, press ?.</p>
    <dl class="keys">
      <template v-for="(mark, index) in progress.marks" :key="mark.name"><dt><kbd>{{ mark.key }}</kbd></dt><dd>{{ mark.name }}<template
        v-if="mark.help">. {{ mark.help }}</template><span class="examples"><img v-for="number in mark.examples" :key="number" :alt="mark.name"
        :src="'api/examples/' + index + '/' + (number - 1)" loading="lazy"></span></dd></template>
      <dt><kbd>Enter</kbd></dt><dd>save, and show the next picture</dd>
      <dt><kbd>Backspace</kbd></dt><dd>go back, to look again or to correct</dd>
      <dt><kbd>c</kbd></dt><dd>another tip begins in the scan: marks are then set for each part; Tab changes the part</dd>
      <dt><kbd>x</kbd> <kbd>f</kbd> <kbd>b</kbd></dt><dd>contrast, levelling, the backward image beside it</dd>
    </dl>
    <p>Now and then a picture comes again, to see how well you agree with yourself. Say what you see, not what you said.</p>
    <button type="button" @click="$refs.help.close()">Close <kbd>Esc</kbd></button>
  </dialog>
</div>
<p v-else class="caption">{{ error || 'Waiting for the program …' }}</p>`;

export default {
  template: `<div>${TEMPLATE}</div>`,

  data: () => ({
    progress: null, position: 0, picture: null, finished: false, error: "",
    seen: [], // positions in the order in which they were shown, those before the first one in front
    segments: [{ from: 0, marks: [] }], active: 0, unsure: false,
    cutting: false, cursor: 0, contrast: 0, level: 0, beside: false, saving: false,
    levels: LEVELS, both: false,
  }),

  computed: {
    previous() {
      const index = this.seen.indexOf(this.position);
      return index > 0 ? this.seen[index - 1] : this.seen[0] > 0 ? this.seen[0] - 1 : undefined;
    },
  },

  created() {
    this.ahead = new Map(); // position to a promise of its picture
    window.__stm = { shown: [] }; // when each picture was on the screen, and when it was asked for
  },

  async mounted() {
    addEventListener("keydown", this.key);
    addEventListener("resize", this.draw);
    await this.begin();
  },

  unmounted() {
    removeEventListener("keydown", this.key);
    removeEventListener("resize", this.draw);
  },

  methods: {
    async begin() {
      try {
        this.progress = await this.ask("api/progress");
        await this.show(this.progress.position);
      } catch (error) {
        this.error = `${error.message} Trying again …`;
        setTimeout(this.begin, 1000);
      }
    },

    async ask(address, options) {
      const answer = await fetch(address, options).catch(() => { throw new Error("The program does not answer."); });
      if (answer.ok) return answer.json();
      const said = await answer.json().catch(() => ({}));
      throw new Error(said.detail ?? `The program answers ${answer.status}.`);
    },

    fetchPicture(position) {
      if (!this.ahead.has(position)) {
        const picture = this.ask(`api/pictures/${position}`).then(markRaw);
        picture.catch(() => this.ahead.delete(position));
        this.ahead.set(position, picture);
      }
      return this.ahead.get(position);
    },

    async show(position, asked = performance.now()) {
      this.finished = position >= this.progress.total;
      this.position = position;
      if (!this.seen.includes(position)) this.seen.push(position);
      if (this.finished) return;
      const picture = await this.fetchPicture(position);
      this.picture = picture;
      this.both = picture.heights.length > 1;
      const said = picture.said;
      const whole = [{ from: 0, marks: [...(said?.marks ?? [])] }];
      this.segments = said?.segments.length ? said.segments.map((part) => ({ ...part, marks: [...part.marks] })) : whole;
      Object.assign(this, { active: 0, unsure: said?.unsure ?? false, cutting: false, error: "" });
      await this.$nextTick();
      this.draw();
      this.since = performance.now();
      window.__stm.shown.push({ position, asked, at: performance.now() });
      const next = this.progress.ahead.filter((each) => each !== position);
      const kept = new Set([...this.seen.slice(-KEPT), position, ...next]);
      for (const each of [...this.ahead.keys()]) if (!kept.has(each)) this.ahead.delete(each);
      for (const each of next) this.fetchPicture(each).then((picture) => setTimeout(() => this.paint(picture, 0))).catch(() => {});
    },

    // The colours of a picture as the rater likes them now, made once.
    paint(picture, way) {
      const key = `${way} ${this.level} ${this.contrast}`;
      picture.frames ??= picture.heights.map((text) => new Frame(text, picture.shape));
      picture.painted ??= {};
      picture.painted[key] ??= picture.frames[way].paint(LEVELS[this.level], CONTRASTS[this.contrast]);
      return picture.painted[key];
    },

    draw() {
      if (!this.picture || this.finished || !this.$refs.forward) return;
      const both = this.beside && this.both;
      const room = this.$refs.stage.clientWidth / (both ? 2 : 1) - (both ? 6 : 0);
      const { top, bottom } = this.$refs.stage.getBoundingClientRect();
      const below = this.$refs.aside.getBoundingClientRect().top >= bottom; // in a narrow window, where marks need room
      const high = below ? innerHeight / 2 - 40 : Math.max(260, innerHeight - top - scrollY - 20);
      const width = Math.floor(Math.min(room, high * this.picture.ratio));
      const marks = this.segments.slice(1).map((part) => ({ share: this.shareOf(part.from), chosen: false }));
      if (this.cutting) marks.push({ share: this.shareOf(this.cursor), chosen: true });
      for (const way of both ? [0, 1] : [0]) {
        const painted = this.paint(this.picture, way);
        const canvas = way ? this.$refs.backward : this.$refs.forward;
        this.picture.frames[way].show(canvas, painted, width, Math.floor(width / this.picture.ratio), marks);
      }
    },

    // How far down the picture a line begins, from 0 to 1.
    shareOf(line) {
      const { rows, shape } = this.picture;
      const up = rows.length > 1 && rows[0] > rows.at(-1);
      return ((rows[Math.min(line, rows.length - 1)] ?? 0) + (up ? 1 : 0)) / shape[0];
    },

    lineAt(event) {
      const row = (event.offsetY / this.$refs.forward.clientHeight) * this.picture.shape[0];
      const rows = this.picture.rows;
      const far = rows.map((each) => Math.abs(each + 0.5 - row));
      return Math.max(1, far.indexOf(Math.min(...far)));
    },

    has(name) { return this.segments[this.active].marks.includes(name); },

    toggle(name) {
      const part = this.segments[this.active];
      part.marks = this.has(name) ? part.marks.filter((each) => each !== name) : [...part.marks, name];
    },

    doubt() { this.unsure = !this.unsure; },

    turn(what, count) {
      this[what] = (this[what] + 1) % count;
      this.draw();
    },

    cut() {
      this.cutting = !this.cutting;
      this.cursor = Math.floor(this.picture.lines / 2);
      this.draw();
    },

    follow(event) {
      if (!this.cutting) return;
      this.cursor = this.lineAt(event);
      this.draw();
    },

    choose(event) {
      if (!this.cutting) return;
      this.cursor = this.lineAt(event);
      this.divide();
    },

    divide() {
      this.cutting = false;
      if (!this.segments.some((part) => part.from === this.cursor)) {
        this.segments = [...this.segments, { from: this.cursor, marks: [] }].sort((a, b) => a.from - b.from);
      }
      this.active = this.segments.findIndex((part) => part.from === this.cursor);
      this.draw();
    },

    join() {
      this.segments = [{ from: 0, marks: [...new Set(this.segments.flatMap((part) => part.marks))] }];
      this.active = 0;
      this.draw();
    },

    async enter() {
      if (this.cutting) return this.divide();
      if (this.saving || this.finished) return;
      const marks = [...new Set(this.segments.flatMap((part) => part.marks))];
      if (!marks.length && !this.unsure) {
        this.error = "Set a mark first, or press ? if you are not sure.";
        return;
      }
      const asked = performance.now(), position = this.position;
      const said = { marks, segments: this.segments.length > 1 ? this.segments : [], unsure: this.unsure, seconds: (asked - this.since) / 1000 };
      this.saving = true;
      try {
        const headers = { "content-type": "application/json" };
        const progress = await this.ask(`api/pictures/${position}`, { method: "POST", headers, body: JSON.stringify(said) });
        Object.assign(this.progress, progress);
        this.ahead.delete(position); // it has another answer now
        await this.show(progress.position, asked);
      } catch (error) {
        this.error = `Not saved: ${error.message}`;
      } finally {
        this.saving = false;
      }
    },

    back() {
      const previous = this.previous;
      if (previous === undefined || this.saving) return;
      if (!this.seen.includes(previous)) this.seen.unshift(previous);
      this.show(previous).catch((error) => { this.error = error.message; });
    },

    move(by) {
      this.cursor = Math.min(this.picture.lines - 1, Math.max(1, this.cursor + by));
      this.draw();
    },

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.progress) return;
      if (document.querySelector("dialog[open]") || /INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) return;
      if (this.finished && event.key !== "Backspace") return;
      const down = this.picture && this.picture.rows[0] <= this.picture.rows.at(-1) ? 1 : -1;
      const step = (event.shiftKey ? 10 : 1) * down;
      const actions = {
        Enter: this.enter, Backspace: this.back, "?": this.doubt, c: this.cut,
        x: () => this.turn("contrast", CONTRASTS.length), f: () => this.turn("level", LEVELS.length),
        b: () => { if (this.both) { this.beside = !this.beside; this.$nextTick(this.draw); } },
        h: () => this.$refs.help.showModal(),
      };
      if (this.cutting) Object.assign(actions, { ArrowDown: () => this.move(step), ArrowUp: () => this.move(-step), Escape: this.cut });
      if (this.segments.length > 1) {
        actions.Delete = this.join;
        actions.Tab = () => { this.active = (this.active + 1) % this.segments.length; };
      }
      const mark = this.progress.marks.find((each) => each.key && each.key === event.key);
      const action = mark ? () => this.toggle(mark.name) : actions[event.key];
      if (!action) return;
      event.preventDefault();
      if (event.repeat && !event.key.startsWith("Arrow")) return; // a key that is held down counts once
      action();
    },
  },
};
