/** What a line of the log can tell. The same list stands in the check of events.kind in the migrations. */
/** What a line of the log can tell. The database holds the same list (events_kind_check). */
export const eventKinds = [
  'RUN_STATUS',
  'RUN_VERDICT',
  'FILE_REGISTERED',
  'MERGE_RECORDED',
  'BACKUP_STATUS',
  'DATASET_STATUS',
  'DATASET_SEALED',
  'DATASET_UNSEALED',
  'DATASET_FILES_ADDED',
  'DATASET_FILES_REMOVED',
  'DATASET_MARKED_BAD',
  'DATASET_CLEARED',
  'CONTAINER_CREATED',
  'CONTAINER_CHANGED',
  'INCIDENT_STATUS',
  'REPLICA_STATUS',
  'COPY_SUSPICION',
  'IMPORT_STATUS',
  'POOL_COPY_STATUS',
  'PUBLICATION_STATUS',
  'DATASET_SHARED',
  'DATASET_UNSHARED',
] as const;

export type EventKind = (typeof eventKinds)[number];

/** Lines of single files, of their copies, and of incidents as a whole: production's alone. As in visibleEvent and the index events_for_all. */
const kindsOfProduction: ReadonlySet<EventKind> = new Set([
  'FILE_REGISTERED',
  'MERGE_RECORDED',
  'BACKUP_STATUS',
  'INCIDENT_STATUS',
  'REPLICA_STATUS',
  'IMPORT_STATUS',
  'POOL_COPY_STATUS',
  'PUBLICATION_STATUS',
] as const);
/** Whether others than production may see lines of this kind. */
export const isForAll = (kind: EventKind): boolean => !kindsOfProduction.has(kind);

/** One step of a life cycle; `from` is '' where life begins. */
export interface Step<State extends string> {
  readonly from: State | '';
  readonly to: State;
  /** What people call it. */
  readonly name: string;
  /** What has to hold, in words; the guard itself is in the rules and in the database. */
  readonly when: string;
}
