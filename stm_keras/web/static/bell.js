// Sound and browser notifications at an alarm; both belong to this browser, and can be muted.

const MUTED = "stm-keras-muted";
const AGAIN = 20000; // ms until an alarm that nobody has seen rings again
const TONES = { "bad tip": [880, 660, 880, 660], "connection lost": [440, 330], default: [660, 880] };

export class Bell {
  constructor() {
    this.rung = 0;
    this.context = null;
    this.last = 0;
    for (const event of ["pointerdown", "keydown"]) {
      addEventListener(event, () => this.allow(), { capture: true });
    }
  }

  // In all tabs of this browser.
  get muted() {
    return localStorage.getItem(MUTED) === "yes";
  }

  // A browser lets a page sound only after somebody has touched it.
  get silent() {
    return this.context === null || this.context.state !== "running";
  }

  allow() {
    this.context ??= "AudioContext" in window ? new AudioContext() : null;
    if (this.context?.state === "suspended") this.context.resume();
  }

  mute(muted) {
    localStorage.setItem(MUTED, muted ? "yes" : "no");
  }

  ring(rule) {
    this.last = Date.now();
    if (this.muted) return;
    this.rung += 1;
    if (this.silent) return;
    (TONES[rule] ?? TONES.default).forEach((pitch, index) => this.tone(pitch, index * 0.22));
  }

  ringAgain(rule) {
    if (Date.now() - this.last > AGAIN) this.ring(rule);
  }

  tone(pitch, after) {
    const start = this.context.currentTime + after;
    const oscillator = this.context.createOscillator();
    const gain = this.context.createGain();
    oscillator.frequency.value = pitch;
    gain.gain.setValueAtTime(0.0001, start);
    gain.gain.exponentialRampToValueAtTime(0.4, start + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.0001, start + 0.2);
    oscillator.connect(gain).connect(this.context.destination);
    oscillator.start(start);
    oscillator.stop(start + 0.21);
  }

  // "granted", "denied", "default" (not asked yet), or "missing": over http from another computer.
  get permission() {
    return "Notification" in window && isSecureContext ? Notification.permission : "missing";
  }

  notify(title, body) {
    if (this.muted || this.permission !== "granted") return;
    new Notification(title, { body, tag: "stm-keras", renotify: true, requireInteraction: true });
  }
}
