import { writePlace, type EventRow } from '../events/events.queries.ts';
import { noticeTypes, type NoticeKind } from './webhooks.rules.ts';

export interface Notice {
  /** The same whenever it is sent again: whoever has it, ignores it. */
  readonly id: string;
  /** JSON */
  readonly body: string;
}

/** The dataset of a line as it is now. */
export interface NoticeDataset {
  readonly status: string;
  readonly standingMarks: number;
  /** Number of the incident that the mark is of. */
  readonly incident: number | null;
}

const kindOf = (event: EventRow): NoticeKind =>
  event.kind === 'DATASET_STATUS' ? 'DATASET_CLOSED' : (event.kind as NoticeKind);

/** What is sent of a line of the log: for programs by its fields, for people by its text. */
export function makeNotice(epoch: string, event: EventRow, now: NoticeDataset): Notice {
  const kind = kindOf(event);
  return {
    id: `evt_${epoch}_${event.id}`,
    body: JSON.stringify({
      type: noticeTypes[kind],
      timestamp: event.occurredAt.toISOString(),
      data: {
        text: sentence(kind, event, now),
        dataset: {
          name: event.datasetName,
          kind: event.datasetKind,
          owner: event.datasetOwner,
          status: now.status,
          isAvailable: event.datasetIsAvailable,
          isBad: now.standingMarks > 0,
        },
        reason: event.reason,
        actor: event.actor,
        incident: now.incident,
        cursor: writePlace(epoch, event),
      },
    }),
  };
}

function sentence(kind: NoticeKind, event: EventRow, now: NoticeDataset): string {
  const why = event.reason ? `: ${event.reason}` : '';
  switch (kind) {
    case 'DATASET_MARKED_BAD':
      return `Dataset ${event.datasetName} was marked bad by ${event.actor}${why}`;
    case 'DATASET_CLEARED':
      return now.standingMarks > 0
        ? `A bad mark was taken off dataset ${event.datasetName} by ${event.actor}, ${now.standingMarks} are left${why}`
        : `Dataset ${event.datasetName} is good again, says ${event.actor}${why}`;
    case 'DATASET_CLOSED':
      return `Dataset ${event.datasetName} is closed and can be read`;
  }
}

/** What testWebhook sends. */
export function testNotice(id: string, owner: string, now: Date): Notice {
  return {
    id,
    body: JSON.stringify({
      type: 'webhook.test',
      timestamp: now.toISOString(),
      data: { text: `A test of this webhook, asked for by ${owner}. Nothing has happened.` },
    }),
  };
}
