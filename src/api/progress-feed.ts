/** How many bytes an attempt has copied; told by workers, kept nowhere. */
export interface CopiedBytes {
  readonly backupId: number;
  readonly attempt: number;
  readonly bytes: number;
}

type Hear = (copied: CopiedBytes) => void;

/** Passes on what workers tell of running copies to whoever listens right now. */
export class ProgressFeed {
  private readonly listeners = new Set<Hear>();

  /** A payload as the doorbell brought it; what cannot be read is left out. */
  tell(payload: string): void {
    for (const item of parse(payload)) {
      for (const hear of this.listeners) hear(item);
    }
  }

  listen(hear: Hear): () => void {
    this.listeners.add(hear);
    return () => this.listeners.delete(hear);
  }
}

function parse(payload: string): CopiedBytes[] {
  let told: unknown;
  try {
    told = JSON.parse(payload);
  } catch {
    return [];
  }
  if (!Array.isArray(told)) return [];
  return told.flatMap((item: unknown) => {
    if (!Array.isArray(item)) return [];
    const [backupId, attempt, bytes] = item as unknown[];
    return typeof backupId === 'number' && typeof attempt === 'number' && typeof bytes === 'number'
      ? [{ backupId, attempt, bytes }]
      : [];
  });
}
