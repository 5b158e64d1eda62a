import { randomBytes } from 'node:crypto';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';

/** What a session is started with; sessions of the same start are alike. */
export interface SessionStart {
  readonly argv: readonly [string, ...string[]];
  readonly env: NodeJS.ProcessEnv;
}

/** What was written while one question was worked on. */
export interface SessionAnswer {
  readonly stdout: string;
  readonly stderr: string;
}

export interface SessionRun {
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
}

export type SessionEnd = SessionAnswer | 'late' | 'broken';

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

const mostTextBytes = 64 * 1024;
/** How "xrdfs" refuses a line that is no command: by this the end of what it wrote before is told. */
const refused = '[ERROR] Command not found\n';
const startMs = 5000;
const mostIdle = 8;
const idleMs = 5000;
/** Tokens are read when a session begins. */
const mostAgeMs = 60_000;

/** Only such words reach "xrdfs" as they are, whatever its line editor and its quotes do. */
export const isPlainWord = (word: string): boolean => /^[A-Za-z0-9._+=@,:/?&-]+$/.test(word);
const mostLine = 2000;

/** The words as one line of a session; undefined = they might be read as something else. */
export function lineOf(words: readonly string[]): string | undefined {
  const line = words.join(' ');
  return line.length <= mostLine && words.every(isPlainWord) ? line : undefined;
}

const running = new Set<Child>();
// At its own end "xrdfs" would add what it was asked to a file in HOME.
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/**
 * One "xrdfs" that takes questions by its standard input, one at a time. Each is followed by a word that is no command
 * and that nobody can guess: what stands between the two echoes is the answer, and nothing else is.
 */
class Session {
  readonly startedAt = Date.now();
  private readonly child: Child;
  private readonly nonce = randomBytes(9).toString('hex');
  private count = 0;
  private stdout = '';
  private stderr = '';
  private prompt = '';
  private isBroken = false;
  private look: () => void = () => undefined;
  private idle: NodeJS.Timeout | undefined;

  constructor({ argv: [program, ...args], env }: SessionStart) {
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env, detached: true });
    running.add(this.child);
    const { stdin, stdout, stderr } = this.child;
    stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.look();
    });
    stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.look();
    });
    stdin.on('error', () => undefined);
    this.child.once('error', () => this.end());
    this.child.once('close', () => this.end());
  }

  /** Learns what stands before each line; false = not a tool that can be talked to like this. */
  async begin(): Promise<boolean> {
    const word = this.nextWord();
    const told = await this.wait([word], { deadlineMs: startMs }, () => {
      const [first = '', second] = this.stdout.split(`${word}\n`);
      const isAll = second === first && first !== '' && this.stderr.endsWith(refused);
      return isAll ? { stdout: first, stderr: this.stderr } : undefined;
    });
    if (typeof told === 'string') return false;
    this.prompt = told.stdout;
    return told.stderr === refused && /^\[[^\n]+\] \/ > $/.test(this.prompt);
  }

  async ask(line: string, run: SessionRun): Promise<SessionEnd> {
    const word = this.nextWord();
    const [before, after] = [`${line}\n`, `${this.prompt}${word}\n${this.prompt}`];
    return this.wait([line, word], run, () => {
      if (!this.stdout.endsWith(after) || !this.stderr.endsWith(refused)) return undefined;
      if (!this.stdout.startsWith(before)) return 'broken';
      return {
        stdout: this.stdout.slice(before.length, -after.length),
        stderr: this.stderr.slice(0, -refused.length),
      };
    });
  }

  private nextWord(): string {
    return `sweepbook-${this.nonce}-${++this.count}`;
  }

  private async wait(
    lines: readonly string[],
    { deadlineMs, signal }: SessionRun,
    found: () => SessionEnd | undefined,
  ): Promise<SessionEnd> {
    clearTimeout(this.idle);
    this.hold(true);
    // What comes unasked is not an answer to what is asked next.
    if (this.stdout !== '' || this.stderr !== '') this.end();
    let late: NodeJS.Timeout | undefined;
    let calledOff: (() => void) | undefined;
    try {
      return await new Promise<SessionEnd>((resolve) => {
        this.look = () => {
          const isTooMuch = this.stdout.length + this.stderr.length > mostTextBytes;
          const end = this.isBroken || isTooMuch ? 'broken' : found();
          if (end !== undefined) resolve(end);
        };
        late = setTimeout(() => resolve('late'), deadlineMs);
        calledOff = () => resolve('broken');
        signal?.addEventListener('abort', calledOff, { once: true });
        if (this.isBroken || signal?.aborted) resolve('broken');
        else this.child.stdin.write(`${lines.join('\n')}\n`);
      }).then((end) => {
        if (typeof end === 'string') this.end();
        return end;
      });
    } finally {
      clearTimeout(late);
      if (calledOff) signal?.removeEventListener('abort', calledOff);
      this.look = () => undefined;
      this.stdout = this.stderr = '';
    }
  }

  get isUsable(): boolean {
    return !this.isBroken && Date.now() - this.startedAt < mostAgeMs;
  }

  /** Waits for the next question, for a while; holds up nobody who wants to end meanwhile. */
  rest(): void {
    this.hold(false);
    this.idle = setTimeout(() => this.end(), idleMs).unref();
  }

  end(): void {
    clearTimeout(this.idle);
    this.isBroken = true;
    running.delete(this.child);
    const { pid, exitCode, signalCode } = this.child;
    try {
      if (pid !== undefined && exitCode === null && signalCode === null) {
        process.kill(-pid, 'SIGKILL');
      }
    } catch {
      // Gone already.
    }
    this.look();
  }

  private hold(isHeld: boolean): void {
    const { stdin, stdout, stderr } = this.child;
    for (const part of [this.child, stdin, stdout, stderr] as { ref?(): void; unref?(): void }[]) {
      if (isHeld) part.ref?.();
      else part.unref?.();
    }
  }
}

/** Sessions that were started alike: as many as questions are asked at once, and kept for a while. */
export class Sessions {
  private readonly idle: Session[] = [];
  /** A tool that cannot be talked to is run once for each question; looked at anew after a while. */
  private refusedAt = -Infinity;

  constructor(private readonly start: SessionStart) {}

  /** undefined = this tool cannot be talked to in a session. */
  async ask(line: string, run: SessionRun): Promise<SessionEnd | undefined> {
    const session = await this.take();
    if (!session) return undefined;
    const end = await session.ask(line, run);
    if (end === 'broken' && !run.signal?.aborted) this.refusedAt = Date.now();
    if (typeof end !== 'string') this.giveBack(session, end);
    return end;
  }

  private async take(): Promise<Session | undefined> {
    for (let known = this.idle.pop(); known; known = this.idle.pop()) {
      if (known.isUsable) return known;
      known.end();
    }
    if (Date.now() - this.refusedAt < mostAgeMs) return undefined;
    const session = new Session(this.start);
    if (await session.begin()) return session;
    session.end();
    this.refusedAt = Date.now();
    return undefined;
  }

  private giveBack(session: Session, { stderr }: SessionAnswer): void {
    // A connection that was lost is tried again by a new one: the tool remembers that it failed, for half an hour.
    const isSound = stderr === '' || /\[3\d{3}\]/.test(stderr);
    if (!isSound || !session.isUsable || this.idle.length >= mostIdle) return session.end();
    session.rest();
    this.idle.push(session);
  }
}
