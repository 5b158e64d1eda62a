import { setTimeout as wait } from 'node:timers/promises';
import { Arg, Ctx, FieldResolver, ID, Resolver, Root, Subscription } from 'type-graphql';
import { demand } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { closable, follow } from '../api/subscription.ts';
import { SweepbookError } from '../errors.ts';
import { currentPlace, writePlace, type EventRow } from '../events/events.queries.ts';
import { incidentsByIds, type IncidentRow } from './incidents.queries.ts';
import { incidentIdOf, loadIncidents } from './incidents.resolver.ts';
import {
  IncidentEvent,
  IncidentProgress,
  IncidentStatus,
  IncidentType,
} from './incidents.schema.ts';

/** However fast files come back, the eye needs no more. */
const leastGapMs = 500;

async function look({ db, viewer }: Context, id: number): Promise<IncidentRow> {
  const [row] = await incidentsByIds(db.fork(), viewer, [id]);
  if (row) return row;
  throw new SweepbookError('NOT_FOUND', `no incident ${id}: look at "incident list"`, {
    incident: id,
  });
}

const isOver = (row: IncidentRow) => row.status === 'CLOSED' || row.status === 'UNDONE';

/** How it stands now, and again whenever something has changed; ends with the incident. */
async function* progressOf(
  context: Context,
  id: number,
  signal: AbortSignal,
): AsyncGenerator<IncidentRow, void, void> {
  const { means, db } = context;
  // The place first, then the present state: what happens in between is told, perhaps twice.
  const place = await currentPlace(db.fork());
  let row = await look(context, id);
  yield row;
  if (isOver(row)) return;
  let isNew = false;
  let wakeUp: () => void = () => undefined;
  const lines = means.feed.follow(place, (event) => event.incidentId === id, signal);
  const reading = (async () => {
    for await (const _ of lines) {
      isNew = true;
      wakeUp();
    }
  })().finally(() => wakeUp());
  reading.catch(() => undefined);
  while (!signal.aborted) {
    if (!isNew) {
      await new Promise<void>((resolve) => {
        wakeUp = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
        if (signal.aborted || isNew) resolve();
      });
      if (!isNew) return;
    }
    isNew = false;
    row = await look(context, id);
    yield row;
    if (isOver(row)) return;
    await wait(leastGapMs, undefined, { signal }).catch(() => undefined);
  }
}

@Resolver()
export class IncidentProgressResolver {
  @Subscription(() => IncidentProgress, {
    description:
      'How the repair of an incident comes along: its state now, then about twice a second while something changes; ' +
      'ends with it. NOT_FOUND. For producers and operators.',
    subscribe: ({ args, context }) => {
      demand((context as Context).viewer, 'readIncidents');
      const id = incidentIdOf((args as { incident: string }).incident);
      return closable((signal) => progressOf(context as Context, id, signal));
    },
  })
  incidentProgress(
    @Root() row: IncidentRow,
    @Arg('incident', () => ID, { description: 'Its id or its number.' }) _incident: string,
  ): IncidentRow {
    return row;
  }
}

@Resolver(() => IncidentEvent)
export class IncidentFeedResolver {
  @Subscription(() => IncidentEvent, {
    description:
      'Each step of each incident, as it happens; with after, also those since that cursor. At least once, in order ' +
      'per incident. INVALID_CURSOR, CURSOR_TOO_OLD. For producers and operators; owners follow datasetStatusChanged.',
    subscribe: ({ args, context }) => {
      demand((context as Context).viewer, 'readIncidents');
      const { after } = args as { after?: string | null };
      return follow(context as Context, after, {
        wants: (event) => event.kind === 'INCIDENT_STATUS',
      });
    },
  })
  incidentChanged(
    @Root() event: EventRow,
    @Arg('after', () => String, {
      nullable: true,
      description: 'Cursor of the last event that you have.',
    })
    _after: string | null,
  ): EventRow {
    return event;
  }

  @FieldResolver(() => String, { description: 'Give it as after to go on from here.' })
  cursor(@Ctx() { means }: Context, @Root() event: EventRow): string {
    return writePlace(means.epoch, event);
  }

  @FieldResolver(() => IncidentType, { description: 'The incident, as it is now.' })
  async incident(
    @Ctx() context: Context,
    @Root() event: EventRow,
  ): Promise<IncidentRow | undefined> {
    return event.incidentId === null ? undefined : context.load(loadIncidents, event.incidentId);
  }

  @FieldResolver(() => IncidentStatus, {
    nullable: true,
    description: 'State before; none for a new one.',
  })
  from(@Root() event: EventRow): string | null {
    return event.fromState;
  }

  @FieldResolver(() => IncidentStatus, { description: 'State after.' })
  to(@Root() event: EventRow): string | null {
    return event.toState;
  }
}
