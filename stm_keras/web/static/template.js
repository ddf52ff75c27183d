// What the page of `stm-keras watch` consists of, as Vue takes it.

export const TEMPLATE = `
<div class="page watch" v-if="state">
  <header class="banner" :class="banner.level" role="status" aria-live="polite">
    <div class="mark" aria-hidden="true"><span>{{ banner.mark }}</span></div>
    <div class="said">
      <h1>{{ banner.title }}<span class="tag" v-if="banner.tag">{{ banner.tag }}</span></h1>
      <p>{{ banner.text }}</p>
    </div>
    <div class="sure" v-if="banner.p != null"><strong>{{ share(banner.p) }}</strong><span>sure</span></div>
  </header>
  <div class="alarms" v-if="alarms.length" role="alert">
    <p v-for="alarm in alarms" :key="alarm.rule">
      <strong>Alarm: {{ alarm.rule }}</strong>, {{ clock(alarm.t) }}<template v-if="alarm.scan">,
      scan {{ alarm.scan }}</template><template v-if="alarm.line != null"> line {{ alarm.line }}</template><template
      v-if="alarm.class">: {{ alarm.class }} {{ share(alarm.p) }}</template>
    </p>
    <button type="button" v-if="unseen" @click="seen">I have seen it <kbd>s</kbd></button>
  </div>
  <div class="bar">
    <p class="link" :class="{ late: late }">
      <span class="dot" :class="{ on: alive, beat: even }" aria-hidden="true"></span>{{ linkWords }}
    </p>
    <div class="buttons">
      <button type="button" @click="mute" :aria-pressed="muted">{{ muted ? 'Sound is off' : 'Sound is on' }} <kbd>m</kbd></button>
      <button type="button" v-if="permission === 'default'" @click="ask">Notify me <kbd>n</kbd></button>
      <button type="button" @click="turn" :disabled="!both">{{ direction === 'forward' ? 'Forward' : 'Backward' }} lines <kbd>b</kbd></button>
      <button type="button" @click="disagree" :disabled="!viewed">I disagree <kbd>d</kbd></button>
      <button type="button" @click="$refs.help.showModal()">Keys <kbd>?</kbd></button>
    </div>
  </div>
  <p class="hint" role="alert" v-if="state.log_failing">The log cannot be written, and the watching goes on: {{ state.log_failing }}</p>
  <p class="hint" v-if="silent && !muted">This browser is silent until you press a key or click here once.</p>
  <main>
    <section class="scan" aria-label="Scan">
      <h2>
        <template v-if="viewed">Scan {{ viewed }}<template v-if="rowName">: {{ rowName }}</template></template>
        <template v-else>The picture grows here, with the verdict beside each line</template>
        <button type="button" v-if="looking" @click="live">Back to now <kbd>Esc</kbd></button>
      </h2>
      <p class="caption">{{ frameWords }}</p>
      <div class="stage" v-show="viewed">
        <canvas class="picture" ref="picture" role="img" :aria-label="pictureWords" @pointermove="point" @pointerleave="pointed = ''"></canvas>
        <canvas class="shares" ref="shares" role="img" aria-label="Verdict and probabilities of the tip of now, line by line" @pointermove="point" @pointerleave="pointed = ''"></canvas>
      </div>
      <p class="caption">{{ pointed || pictureWords }}</p>
    </section>
    <aside>
      <section aria-label="Probabilities">
        <h2>Tip of now</h2>
        <table class="classes" :class="{ vague: state.tip && state.tip.verdict !== state.tip.class }">
          <thead><tr><th scope="col">class</th><th scope="col">tip of now</th><th scope="col">whole scan</th></tr></thead>
          <tbody>
            <tr v-for="(name, index) in state.classes" :key="name" :class="{ likeliest: name === state.tip?.class }">
              <th scope="row"><i :style="looks[index]"></i>{{ name }}<small v-if="state.bad.includes(name)"> (bad tip)</small></th>
              <td><span class="meter"><span :style="meter(index, tipShares[index])"></span></span>{{ share(tipShares[index]) }}</td>
              <td>{{ share(scanShares[index]) }}</td>
            </tr>
          </tbody>
        </table>
        <p class="caption" v-if="state.scan?.context">{{ state.scan.context.words }}</p>
        <p class="caption legend"><i :style="looks.unsure"></i>unsure <i :style="looks.unknown"></i>unknown surface or size,
        in the strip beside the picture</p>
      </section>
      <section aria-label="Scans of the day">
        <h2>Scans today <small>{{ scans.length }}</small></h2>
        <ol class="day">
          <li v-for="scan in newest" :key="scan.number">
            <button type="button" :class="{ current: scan.number === viewed }" @click="look(scan)"
              :aria-disabled="!scan.kept" :title="scan.kept ? '' : 'Only the small picture is kept of scans that are long over.'">
              <img v-if="scan.picture" :src="'api/scans/' + scan.number + '.png'" alt="" loading="lazy">
              <span v-else class="blank">{{ scan.reason ? 'no picture' : 'now' }}</span>
              <span class="words">
                <strong>{{ scan.number }}. <i :style="look_of(scan.verdict)"></i>{{ verdictWords(scan) }}</strong>
                <span>{{ clock(scan.began) }}, {{ scanWords(scan) }}</span>
                <span v-if="scan.now && scan.now !== scan.verdict">tip {{ scan.reason ? 'in the end' : 'of now' }}: {{ scan.now }}</span>
                <span v-if="scan.alarms.length" class="alarmed">alarm: {{ scan.alarms.join(', ') }}</span>
                <span v-if="scan.labels.length">labelled: {{ scan.labels.join(', ') }}</span>
              </span>
            </button>
          </li>
        </ol>
        <p class="caption" v-if="!scans.length">Scans are listed here as they come.</p>
      </section>
      <details>
        <summary>Settings</summary>
        <dl class="facts"><template v-for="fact in facts" :key="fact[0]"><dt>{{ fact[0] }}</dt><dd>{{ fact[1] }}</dd></template></dl>
      </details>
    </aside>
  </main>
  <p class="toast" role="status" aria-live="polite" v-show="toast">{{ toast }}</p>
  <dialog ref="ask" aria-labelledby="ask-title" @keydown="answer">
    <h2 id="ask-title">What is the tip in scan {{ asked }}?</h2>
    <p v-if="askedRow">stm-keras says: {{ verdictWords(askedRow) }}.
      Your answer is written into the log; the verdict stays.</p>
    <div class="choices">
      <button type="button" v-for="(name, index) in choices" :key="name" @click="label(name)"><kbd v-if="index < 9 || index === choices.length - 1">{{ index === choices.length - 1 ? 0 : index + 1 }}</kbd>
        <i :style="look_of(name)"></i>{{ name }}</button>
    </div>
    <label>Your name (may be left out) <input ref="name" type="text" maxlength="60" v-model="who" autocomplete="off"></label>
    <button type="button" class="plain" @click="$refs.ask.close()">Cancel <kbd>Esc</kbd></button>
  </dialog>
  <dialog ref="help" aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>
    <dl class="keys">
      <dt><kbd>d</kbd></dt><dd>I disagree: say what the tip is</dd>
      <dt><kbd>s</kbd></dt><dd>the alarm has been seen, and rings no more</dd>
      <dt><kbd>m</kbd></dt><dd>sound on or off, in this browser</dd>
      <dt><kbd>n</kbd></dt><dd>notifications of this browser</dd>
      <dt><kbd>b</kbd></dt><dd>forward or backward lines</dd>
      <dt><kbd>←</kbd> <kbd>→</kbd></dt><dd>the scan before, the scan after</dd>
      <dt><kbd>Esc</kbd></dt><dd>back to the scan of now</dd>
    </dl>
    <p>Beside the picture: a strip with the verdict on the tip after each line, and how the probabilities of the classes share
      the line. A dashed line is where the tip changed. Hatched: not scanned, or lost.</p>
    <button type="button" class="plain" @click="$refs.help.close()">Close <kbd>Esc</kbd></button>
  </dialog>
</div>
<p v-else class="caption">Waiting for the program …</p>`;
