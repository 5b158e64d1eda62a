import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const checkMs = 500;

/** What the system counts of a connection: only this tells how much of one long write has gone. */
interface Handle {
  readonly bytesWritten: number;
  readonly writeQueueSize: number;
}

const handleOf = (socket: Socket): Handle | null | undefined =>
  Reflect.get(socket, '_handle') as Handle | null | undefined;

/**
 * How somebody takes what waits for him on a connection. Time counts while something waits; each byte that he takes gives
 * him time, up to his patience. Who takes nothing is too slow after it, who takes a little now and then soon after.
 */
export class Reader {
  private readonly patienceMs: number;
  private leftMs: number;
  private at: number;
  private taken = 0;
  private waits = false;

  /** `leastRate`: bytes a second; 0 = any byte gives all the time there is. */
  constructor(
    private readonly socket: Socket,
    private readonly leastRate: number,
    patienceSeconds: number,
    private readonly clock: () => number = () => performance.now(),
  ) {
    this.patienceMs = patienceSeconds * 1000;
    this.leftMs = this.patienceMs;
    this.at = clock();
    this.taken = this.takenBytes();
  }

  /** To be asked now and then: what happens between two questions is seen at the second. */
  isTooSlow(): boolean {
    const now = this.clock();
    const taken = this.takenBytes();
    const wasWaiting = this.waits;
    this.waits = this.socket.writableLength > 0;
    if (!this.waits) this.leftMs = this.patienceMs;
    else if (wasWaiting) {
      const gainedMs = this.gainedMs(taken - this.taken);
      this.leftMs = Math.min(this.patienceMs, this.leftMs + gainedMs) - (now - this.at);
    }
    this.at = now;
    this.taken = taken;
    return this.waits && this.leftMs <= 0;
  }

  private gainedMs(bytes: number): number {
    if (bytes <= 0) return 0;
    return this.leastRate === 0 ? this.patienceMs : (bytes / this.leastRate) * 1000;
  }

  private takenBytes(): number {
    const handle = handleOf(this.socket);
    return handle ? handle.bytesWritten - handle.writeQueueSize : this.taken;
  }
}

/** Watches over all who read, and cuts off who is too slow. */
export class Readers {
  private readonly watched = new Map<Reader, () => void>();
  private readonly timer: NodeJS.Timeout;

  constructor(private readonly leastRate: number) {
    this.timer = setInterval(() => this.check(), checkMs).unref();
  }

  /** Returns how to end it. */
  watch(socket: Socket, patienceSeconds: number, cutOff: () => void): () => void {
    const reader = new Reader(socket, this.leastRate, patienceSeconds);
    this.watched.set(reader, cutOff);
    return () => void this.watched.delete(reader);
  }

  /** Until the answer is out. One that waits for those before it has no socket yet; its request has. */
  watchAnswer(response: ServerResponse, patienceSeconds: number): void {
    const { socket } = response.req;
    const leave = this.watch(socket, patienceSeconds, () => socket.destroy());
    response.once('close', leave);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private check(): void {
    for (const [reader, cutOff] of this.watched) if (reader.isTooSlow()) cutOff();
  }
}
