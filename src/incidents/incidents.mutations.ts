import { Arg, Ctx, Mutation, Resolver } from 'type-graphql';
import { inOrder, type Context } from '../api/context.ts';
import { ConfirmReplicaInput, ConfirmReplicaPayload } from './checks.schema.ts';
import { confirmReplica } from './confirm-replica.service.ts';
import { checksByIds } from './incidents.queries.ts';
import { toldTable } from './incident-table.resolver.ts';
import { incidentIdOf, loadIncidents } from './incidents.resolver.ts';
import {
  EndIncidentInput,
  IncidentPayload,
  RecoverIncidentInput,
  ReportStorageLossInput,
  ReportStorageLossPayload,
} from './loss.schema.ts';
import {
  recoverIncident,
  resolveIncident,
  undoIncident,
  type IncidentChange,
} from './recovery.service.ts';
import { reportStorageLoss } from './report.service.ts';

async function loadChecksById(context: Context, ids: readonly number[]) {
  return inOrder(ids, await checksByIds(context.db.fork(), ids), (row) => row.id);
}

async function answer(context: Context, change: IncidentChange) {
  if (change.changed) context.means.ring();
  return {
    incident: await context.load(loadIncidents, change.incidentId),
    changed: change.changed,
  };
}

@Resolver()
export class IncidentMutations {
  @Mutation(() => ReportStorageLossPayload, {
    description:
      'Tells that storage is lost: finds every copy that is hit and says what its loss means; marks bad the ' +
      'datasets that lost a file. With dryRun the same answer, nothing written. Told twice, nothing more happens. ' +
      'NOT_FOUND for a place that nobody knows. For operators.',
  })
  async reportStorageLoss(
    @Ctx() context: Context,
    @Arg('input', () => ReportStorageLossInput, { description: 'What was lost, and why.' })
    input: ReportStorageLossInput,
  ) {
    const { idempotencyKey, ...loss } = input;
    const { db, viewer, means } = context;
    const report = await reportStorageLoss(db, viewer, loss, idempotencyKey);
    if (report.changed) means.ring();
    return {
      ...toldTable(report.table),
      incident:
        report.incidentId === null ? null : await context.load(loadIncidents, report.incidentId),
      changed: report.changed,
      dryRun: report.dryRun,
      alreadyLostCount: report.alreadyLostCount,
      unknownCount: report.unknown.count,
      unknown: report.unknown.names,
    };
  }

  @Mutation(() => IncidentPayload, {
    description:
      'Brings back, in the background, what can be brought back: restages from the mass store, reads what may be ' +
      'there again, asks for lost backups again. Ends by itself: CLOSED when all is back, else OPEN. NOT_FOUND, ' +
      'ILLEGAL_TRANSITION (undone). For operators.',
  })
  async recoverIncident(
    @Ctx() context: Context,
    @Arg('input', () => RecoverIncidentInput, { description: 'The incident, and where to.' })
    input: RecoverIncidentInput,
  ) {
    const { incident, ...target } = input;
    const { db, viewer } = context;
    return answer(context, await recoverIncident(db, viewer, incidentIdOf(incident), target));
  }

  @Mutation(() => IncidentPayload, {
    description:
      'A wrong volume was named: its copies are AVAILABLE again, exactly the marks of this incident go, the history ' +
      'stays. For copies on disk. NOT_FOUND, ILLEGAL_TRANSITION (closed, or about a mass store). For operators.',
  })
  async undoIncident(
    @Ctx() context: Context,
    @Arg('input', () => EndIncidentInput, { description: 'The incident, and why.' })
    input: EndIncidentInput,
  ) {
    const { db, viewer } = context;
    return answer(
      context,
      await undoIncident(db, viewer, incidentIdOf(input.incident), input.reason),
    );
  }

  @Mutation(() => IncidentPayload, {
    description:
      'Closes an incident: what is not back stays lost, and its datasets stay bad until it is. NOT_FOUND, ' +
      'ILLEGAL_TRANSITION (undone). For operators.',
  })
  async resolveIncident(
    @Ctx() context: Context,
    @Arg('input', () => EndIncidentInput, { description: 'The incident, and why.' })
    input: EndIncidentInput,
  ) {
    const { db, viewer } = context;
    return answer(
      context,
      await resolveIncident(db, viewer, incidentIdOf(input.incident), input.reason),
    );
  }

  @Mutation(() => ConfirmReplicaPayload, {
    description:
      'Tells that a copy of a file is on disk, or there again: a worker reads it before it counts. NOT_FOUND ' +
      '(file, site), BAD_USER_INPUT. For producers.',
  })
  async confirmReplica(
    @Ctx() context: Context,
    @Arg('input', () => ConfirmReplicaInput, { description: 'File and place.' })
    input: ConfirmReplicaInput,
  ) {
    const { db, viewer, means } = context;
    const { checkId, changed } = await confirmReplica(db, viewer, input, means.site);
    means.ring();
    return { check: await context.load(loadChecksById, checkId), changed };
  }
}
