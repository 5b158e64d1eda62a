import type { Step } from '../events/events.rules.ts';
import { badInput, SweepbookError } from '../errors.ts';

export const incidentStatuses = ['OPEN', 'RECOVERING', 'CLOSED', 'UNDONE'] as const;
export type IncidentStatus = (typeof incidentStatuses)[number];
export const lossKinds = ['REPLICAS', 'BACKUPS'] as const;
export type LossKind = (typeof lossKinds)[number];
export const findings = ['SAFE', 'RECOVERABLE', 'LOST'] as const;
export type Finding = (typeof findings)[number];
export const itemStatuses = ['HIT', 'RESTORED', 'UNDONE'] as const;
export type ItemStatus = (typeof itemStatuses)[number];

/** The life of an incident; the trigger incidents_guard holds it. */
export const incidentSteps: readonly Step<IncidentStatus>[] = [
  { from: '', to: 'OPEN', name: 'report', when: 'it hit at least one copy' },
  { from: 'OPEN', to: 'RECOVERING', name: 'recover', when: 'an operator asks for it' },
  { from: 'OPEN', to: 'CLOSED', name: 'resolve', when: 'a reason is given, or all is back' },
  {
    from: 'OPEN',
    to: 'UNDONE',
    name: 'undo',
    when: 'copies on disk, wrongly reported; with a reason',
  },
  {
    from: 'RECOVERING',
    to: 'OPEN',
    name: 'pause',
    when: 'all was tried, and something is not back',
  },
  { from: 'RECOVERING', to: 'CLOSED', name: 'close', when: 'all is back, or a reason is given' },
  {
    from: 'RECOVERING',
    to: 'UNDONE',
    name: 'undo',
    when: 'copies on disk, wrongly reported; with a reason',
  },
  { from: 'CLOSED', to: 'RECOVERING', name: 'recover', when: 'something is not back' },
];

/** What holds a file besides the copy that was hit. */
export interface Holdings {
  /** Other copies of the same sort that were not hit: AVAILABLE on disk, or CONFIRMED in a store. */
  readonly alike: number;
  /** Copies of the other sort. */
  readonly other: number;
}

/** What the loss of a copy means for its file; the same rule as SQL is in hits.queries.ts. */
export function findingOf({ alike, other }: Holdings): Finding {
  if (alike > 0) return 'SAFE';
  return other > 0 ? 'RECOVERABLE' : 'LOST';
}

/**
 * Whether a dataset is marked bad: when nothing holds one of its files any more, neither a disk nor a store.
 * Where a store has lost the only backup of a file that a disk holds, users can read it: the dataset stays what
 * it is, and the copy is asked for again at once. Data made from lost data is good as long as it is held itself:
 * it is listed, generation by generation, and never marked for what it was made of.
 */
export const isHeldBack = (lostCount: number): boolean => lostCount > 0;

export const mostNames = 10_000;
const longestReason = 2000;
const longestPlace = 4096;

/** What was lost, as it is told. */
export interface LossScope {
  readonly volume?: string | null | undefined;
  readonly site?: string | null | undefined;
  readonly pathPrefix?: string | null | undefined;
  readonly massStore?: string | null | undefined;
  readonly paths?: readonly string[] | null | undefined;
  readonly lfns?: readonly string[] | null | undefined;
  readonly since?: Date | null | undefined;
  readonly until?: Date | null | undefined;
}

const forms =
  'volume (with site, if the name is not unique) · site and pathPrefix · massStore (with pathPrefix, or ' +
  'paths = keys, or lfns) · paths (with site, if you like) · lfns';

/** Exactly one of the forms, and nothing that does not belong to it; BAD_USER_INPUT. */
export function checkScope(scope: LossScope): LossKind {
  const given = (['volume', 'site', 'pathPrefix', 'massStore', 'paths', 'lfns'] as const).filter(
    (field) => scope[field] != null,
  );
  const allowed = [
    ['volume'],
    ['volume', 'site'],
    ['site', 'pathPrefix'],
    ['massStore'],
    ['massStore', 'pathPrefix'],
    ['massStore', 'paths'],
    ['massStore', 'lfns'],
    ['paths'],
    ['site', 'paths'],
    ['lfns'],
  ];
  const fits = allowed.some(
    (form) => form.length === given.length && form.every((field) => given.some((g) => g === field)),
  );
  if (!fits) throw badInput('scope', given.join(' + '), `say what was lost in one way: ${forms}`);
  for (const field of ['paths', 'lfns'] as const) checkNames(field, scope[field]);
  for (const field of ['volume', 'site', 'pathPrefix', 'massStore'] as const) {
    const text = scope[field];
    if (text != null && (text === '' || text.length > longestPlace || text.includes('\0'))) {
      throw badInput(field, text, `1 to ${longestPlace} characters`);
    }
  }
  if (scope.massStore == null && scope.pathPrefix != null && !scope.pathPrefix.startsWith('/')) {
    throw badInput('pathPrefix', scope.pathPrefix, 'the beginning of absolute paths: "/data/d7/"');
  }
  if (scope.since && scope.until && scope.since > scope.until) {
    throw badInput('since', scope.since, 'must not be after until');
  }
  return scope.massStore == null ? 'REPLICAS' : 'BACKUPS';
}

function checkNames(field: string, names: readonly string[] | null | undefined): void {
  if (names == null) return;
  if (names.length < 1 || names.length > mostNames) {
    throw badInput(field, names.length, `1 to ${mostNames} in one call`);
  }
  const wrong = names.find(
    (name) => name === '' || name.length > longestPlace || name.includes('\0'),
  );
  if (wrong !== undefined) throw badInput(field, wrong, `1 to ${longestPlace} characters each`);
}

/** Why: it stands in the history of every dataset that is hit. */
export function checkReason(reason: string | null | undefined): string {
  const text = reason?.trim() ?? '';
  if (text === '' || text.length > longestReason || text.includes('\0')) {
    throw badInput('reason', text, `say why, in 1 to ${longestReason} characters`);
  }
  return text;
}

export interface IncidentState {
  readonly id: number;
  readonly status: IncidentStatus;
  readonly what: LossKind;
  readonly openCount: number;
}

export type IncidentMove = { readonly kind: 'done' } | { readonly kind: 'move' };

/** Each step by its name; what is so already is done, what is no step is refused. */
export function step(incident: IncidentState, to: IncidentStatus, wayOut: string): IncidentMove {
  if (incident.status === to) return { kind: 'done' };
  if (incidentSteps.some((known) => known.from === incident.status && known.to === to)) {
    return { kind: 'move' };
  }
  throw new SweepbookError(
    'ILLEGAL_TRANSITION',
    `incident ${incident.id} is ${incident.status} and cannot become ${to}: ${wayOut}`,
    {
      incident: incident.id,
      from: incident.status,
      to,
      allowed: incidentSteps.filter((s) => s.from === incident.status).map((s) => s.to),
    },
  );
}

/** Only copies on disk come back by word; a store is asked. */
export function undo(incident: IncidentState): IncidentMove {
  if (incident.what === 'BACKUPS') {
    throw new SweepbookError(
      'ILLEGAL_TRANSITION',
      `incident ${incident.id} is about copies in a mass store, which are not believed without asking it: each is ` +
        'asked for again and read; what is there is confirmed, and the marks go with it',
      { incident: incident.id },
    );
  }
  return step(incident, 'UNDONE', 'what is over is not undone; mark or recover what it is about');
}

/** Where restaged files go: another volume, another beginning of the path, or where they were. */
export interface RecoveryTarget {
  readonly volume?: string | null | undefined;
  readonly pathFrom?: string | null | undefined;
  readonly pathTo?: string | null | undefined;
}

export function checkTarget(target: RecoveryTarget): void {
  const { pathFrom, pathTo } = target;
  if ((pathFrom == null) !== (pathTo == null)) {
    throw badInput(
      'pathTo',
      pathTo,
      'goes with pathFrom: which beginning of the paths becomes which',
    );
  }
  for (const [field, text] of [
    ['pathFrom', pathFrom],
    ['pathTo', pathTo],
  ] as const) {
    if (text == null) continue;
    const isPlain = text.startsWith('/') && text.length <= longestPlace && !text.includes('\0');
    if (!isPlain || text.split('/').some((part) => part === '..' || part === '.')) {
      throw badInput(field, text, 'an absolute path without "." and ".."');
    }
  }
}
