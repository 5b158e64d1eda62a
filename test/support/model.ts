/** The rules in their simplest form: what the server is held against. Files are numbers 0 … n−1. */
export interface ModelDataset {
  status: 'OPEN' | 'BACKED_UP' | 'CLOSED';
  sealed: boolean;
  isBad: boolean;
  files: Set<number>;
}

export interface Model {
  readonly datasets: Map<string, ModelDataset>;
  readonly confirmed: Set<number>;
  /** Whose last copy was wrong, until somebody asks for another one. */
  readonly failed: Set<number>;
}

export const newModel = (): Model => ({
  datasets: new Map(),
  confirmed: new Set(),
  failed: new Set(),
});

/** What a command answers: whether something changed, or the code of the refusal. */
export type Answer = { readonly changed: boolean } | { readonly code: string };

const refused = (code: string): Answer => ({ code });
const done: Answer = { changed: false };
const changed: Answer = { changed: true };

export function create(model: Model, name: string): Answer {
  if (model.datasets.has(name)) return refused('DUPLICATE');
  model.datasets.set(name, { status: 'OPEN', sealed: false, isBad: false, files: new Set() });
  return changed;
}

function changeable(dataset: ModelDataset): string | undefined {
  if (dataset.status !== 'OPEN') return 'ILLEGAL_TRANSITION';
  return dataset.sealed ? 'DATASET_SEALED' : undefined;
}

export function changeFiles(
  model: Model,
  name: string,
  files: readonly number[],
  how: 'add' | 'remove',
): Answer {
  const dataset = model.datasets.get(name);
  if (!dataset) return refused('NOT_FOUND');
  const code = changeable(dataset);
  if (code) return refused(code);
  const before = dataset.files.size;
  for (const file of files) {
    if (how === 'add') dataset.files.add(file);
    else dataset.files.delete(file);
  }
  return { changed: dataset.files.size !== before };
}

const isSafe = (model: Model, dataset: ModelDataset) =>
  [...dataset.files].every((file) => model.confirmed.has(file));

export function markBackedUp(model: Model, name: string): Answer {
  const dataset = model.datasets.get(name);
  if (!dataset) return refused('NOT_FOUND');
  if (dataset.status !== 'OPEN') return done;
  if (dataset.files.size === 0) return refused('DATASET_EMPTY');
  if (!isSafe(model, dataset)) return refused('FILES_NOT_BACKED_UP');
  if (dataset.sealed) return refused('DATASET_SEALED');
  dataset.status = 'BACKED_UP';
  return changed;
}

export function close(model: Model, name: string): Answer {
  const dataset = model.datasets.get(name);
  if (!dataset) return refused('NOT_FOUND');
  if (dataset.status === 'CLOSED') return done;
  if (dataset.status === 'OPEN') return refused('ILLEGAL_TRANSITION');
  dataset.status = 'CLOSED';
  return changed;
}

export function reopen(model: Model, name: string): Answer {
  const dataset = model.datasets.get(name);
  if (!dataset) return refused('NOT_FOUND');
  if (dataset.status === 'CLOSED') return refused('ILLEGAL_TRANSITION');
  if (dataset.status === 'OPEN' && !dataset.sealed) return done;
  dataset.status = 'OPEN';
  dataset.sealed = false;
  return changed;
}

export function sweep(model: Model, name: string): Answer {
  const dataset = model.datasets.get(name);
  if (!dataset) return refused('NOT_FOUND');
  if (dataset.status === 'CLOSED') return done;
  if (dataset.sealed) return { changed: askAgain(model, dataset) };
  if (dataset.files.size === 0) return refused('DATASET_EMPTY');
  if (dataset.status === 'BACKED_UP') {
    dataset.status = 'CLOSED';
    return changed;
  }
  dataset.sealed = true;
  askAgain(model, dataset);
  advance(model);
  return changed;
}

/** What has failed is asked for again. */
function askAgain(model: Model, dataset: ModelDataset): boolean {
  return [...dataset.files].filter((file) => model.failed.delete(file)).length > 0;
}

/** A sweep whose last file is confirmed closes its dataset. */
function advance(model: Model): void {
  for (const dataset of model.datasets.values()) {
    if (!dataset.sealed || !isSafe(model, dataset)) continue;
    dataset.sealed = false;
    dataset.status = 'CLOSED';
  }
}

/** A copy that is right is confirmed once; one that is wrong never is. */
export function confirm(model: Model, file: number, isRight: boolean): Answer {
  if (model.confirmed.has(file)) return done;
  if (!isRight) {
    model.failed.add(file);
    return refused('CHECKSUM_MISMATCH');
  }
  model.failed.delete(file);
  model.confirmed.add(file);
  advance(model);
  return changed;
}

export function setBad(model: Model, name: string, isBad: boolean): Answer {
  const dataset = model.datasets.get(name);
  if (!dataset) return refused('NOT_FOUND');
  if (dataset.isBad === isBad) return done;
  dataset.isBad = isBad;
  return changed;
}

export const isVisible = (dataset: ModelDataset): boolean =>
  dataset.status === 'CLOSED' && !dataset.isBad;
