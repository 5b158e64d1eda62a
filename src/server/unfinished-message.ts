/** What each piece of a message costs beside its bytes, however short it is: measured, some 530 bytes. */
const pieceBytes = 512;

/** What a piece tells. */
interface Told {
  /** How long the longest message in it is going to be, as far as its frames have begun. */
  readonly longestBytes: number;
  /** Whether one comes to its end in it; another one may have begun. */
  readonly isWholeWithin: boolean;
}

/**
 * What of a message has come on a WebSocket before it is whole. The library keeps it until then and tells nobody how much
 * it is; so what comes is read along, by the headers of its frames alone (RFC 6455, 5.2).
 */
export class UnfinishedMessage {
  private header: number[] = [];
  /** Bytes of the frame that have not come. */
  private leftBytes = 0;
  /** Whether more frames of the message are to come after this one; those of control may come in between. */
  private isFragmented = false;
  private announced = 0;
  private held = 0;

  /**
   * Memory that is held for it: of all the pieces since it began, for a byte holds its piece, and a control frame in
   * between is in one.
   */
  get heldBytes(): number {
    return this.held;
  }

  read(piece: Uint8Array): Told {
    let longestBytes = 0;
    let isWholeWithin = false;
    for (let at = 0; at < piece.length;) {
      if (this.leftBytes > 0) {
        const taken = Math.min(this.leftBytes, piece.length - at);
        this.leftBytes -= taken;
        at += taken;
      } else {
        this.header.push(piece[at++] ?? 0);
        if (this.header.length < headerLength(this.header)) continue;
        this.begin();
        longestBytes = Math.max(longestBytes, this.announced);
      }
      if (this.isBetween()) {
        this.announced = 0;
        isWholeWithin = true;
      }
    }
    const isWhole = this.isBetween();
    if (isWhole || isWholeWithin) this.held = 0;
    if (!isWhole) this.held += piece.length + pieceBytes;
    return { longestBytes, isWholeWithin };
  }

  private begin(): void {
    const [first = 0] = this.header;
    this.leftBytes = payloadLength(this.header);
    this.header = [];
    const isControl = (first & 0x08) !== 0;
    if (isControl) return;
    this.isFragmented = (first & 0x80) === 0;
    this.announced += this.leftBytes;
  }

  private isBetween(): boolean {
    return this.leftBytes === 0 && this.header.length === 0 && !this.isFragmented;
  }
}

/** Of as much of it as is there: two bytes, the length if it is a long one, and the mask. */
function headerLength([, second]: readonly number[]): number {
  if (second === undefined) return 2;
  const length = second & 0x7f;
  return 2 + (length === 127 ? 8 : length === 126 ? 2 : 0) + (second & 0x80 ? 4 : 0);
}

function payloadLength([, second = 0, ...rest]: readonly number[]): number {
  const length = second & 0x7f;
  if (length < 126) return length;
  return rest.slice(0, length === 127 ? 8 : 2).reduce((sum, byte) => sum * 256 + byte, 0);
}
