import 'reflect-metadata';
import type { GraphQLSchema } from 'graphql';
import { Arg, buildSchemaSync, Ctx, ID, Query, Resolver } from 'type-graphql';
import { AuditTrailResolver } from '../access/audit-trail.resolver.ts';
import { IdentityResolver } from '../access/identities.resolver.ts';
import { GroupResolver } from '../access/groups.resolver.ts';
import { TokenResolver, ViewerResolver } from '../access/tokens.resolver.ts';
import type { Context } from '../api/context.ts';
import { NodeType, readNodeId } from '../api/node.ts';
import { DateTime } from '../api/scalars.ts';
import {
  BackupRequestResultResolver,
  BackupResolver,
  FileBackupsResolver,
  findBackupNode,
} from '../backups/backups.resolver.ts';
import { MassStoreResolver } from '../backups/mass-stores.resolver.ts';
import { BackupPoliciesResolver } from '../backups/policies.resolver.ts';
import {
  ContainerContentResolver,
  ContainerDeltaResolver,
  ContainerMemberResolver,
} from '../containers/container-content.resolver.ts';
import { ContainerFeedResolver } from '../containers/container-feed.resolver.ts';
import { ContainerMutations } from '../containers/containers.mutations.ts';
import {
  ContainerChangeResolver,
  ContainerResolver,
  DatasetContainersResolver,
  EventContainerResolver,
  findContainerNode,
} from '../containers/containers.resolver.ts';
import { DatasetFeedResolver } from '../datasets/dataset-feed.resolver.ts';
import {
  DatasetRunResolver,
  DatasetRunsResolver,
  RunDatasetsResolver,
  RunsOfDatasetResolver,
} from '../datasets/dataset-runs.resolver.ts';
import { DatasetMutations } from '../datasets/datasets.mutations.ts';
import { DatasetSharesResolver } from '../datasets/shares.resolver.ts';
import {
  DatasetResolver,
  EventDatasetResolver,
  FileDatasetsResolver,
  findDatasetNode,
} from '../datasets/datasets.resolver.ts';
import { EventResolver } from '../events/events.resolver.ts';
import {
  EventFileResolver,
  FileResolver,
  FileResultResolver,
  findFileNode,
  RunFilesResolver,
} from '../files/files.resolver.ts';
import { ParentageResolver, RelativeResolver } from '../files/parentage.resolver.ts';
import { GoodRunsResolver } from '../production/good-runs.resolver.ts';
import { RunProductionResolver } from '../production/run-production.resolver.ts';
import {
  StuckDatasetResolver,
  StuckResolver,
  StuckSweepResolver,
} from '../production/stuck.resolver.ts';
import { TotalsResolver } from '../production/totals.resolver.ts';
import { DqmResolver } from '../runs/dqm.resolver.ts';
import { findWebhookNode, WebhookResolver } from '../notices/webhooks.resolver.ts';
import {
  EventRunResolver,
  findRunNode,
  RunEventResolver,
  RunResolver,
  RunResultResolver,
} from '../runs/runs.resolver.ts';
import {
  IncidentFeedResolver,
  IncidentProgressResolver,
} from '../incidents/incident-feed.resolver.ts';
import { IncidentTableResolver } from '../incidents/incident-table.resolver.ts';
import { IncidentMutations } from '../incidents/incidents.mutations.ts';
import {
  BadMarkIncidentResolver,
  EventIncidentResolver,
  FileChecksResolver,
  findIncidentNode,
  IncidentDatasetResolver,
  IncidentItemResolver,
  IncidentResolver,
} from '../incidents/incidents.resolver.ts';
import { FollowedDatasetResolver, FollowRuleResolver } from '../imports/follow.resolver.ts';
import { ContainerOriginResolver } from '../imports/mirror.resolver.ts';
import { ImportProgressResolver } from '../imports/import-progress.resolver.ts';
import {
  DatasetOriginResolver,
  findImportNode,
  ImportMutations,
  ImportResolver,
} from '../imports/imports.resolver.ts';
import {
  DatasetLocalityResolver,
  FileLocalityResolver,
  PoolResolver,
} from '../pools/pools.resolver.ts';
import { findStageNode, StageMutations, StageResolver } from '../pools/stages.resolver.ts';
import { StageProgressResolver } from '../pools/stage-progress.resolver.ts';
import { PublicationProgressResolver } from '../publications/publication-progress.resolver.ts';
import { PublicationMutations } from '../publications/publications.mutations.ts';
import { findPublicationNode, PublicationResolver } from '../publications/publications.resolver.ts';
import { BackupProgressResolver } from '../sweeps/backup-progress.resolver.ts';
import { SweepResolver } from '../sweeps/sweeps.resolver.ts';
import { ContainerExportResolver, ExportResolver } from './export.resolver.ts';
import { AuditsResolver } from '../suspicions/audits.resolver.ts';
import { findSuspicionNode, SuspicionResolver } from '../suspicions/suspicions.resolver.ts';

@Resolver()
class NodeResolver {
  @Query(() => NodeType, {
    nullable: true,
    description: 'Whatever has this id; null = nothing that you see.',
  })
  async node(
    @Ctx() context: Context,
    @Arg('id', () => ID, { description: 'As an earlier answer gave it.' }) id: string,
  ): Promise<object | undefined> {
    const key = readNodeId(id);
    switch (key?.name) {
      case undefined:
        return undefined;
      case 'Dataset':
        return findDatasetNode(context, key.id);
      case 'File':
        return findFileNode(context, key.id);
      case 'Run':
        return findRunNode(context, key.id);
      case 'BackupRecord':
        return findBackupNode(context, key.id);
      case 'Container':
        return findContainerNode(context, key.id);
      case 'Incident':
        return findIncidentNode(context, key.id);
      case 'Webhook':
        return findWebhookNode(context, key.id);
      case 'SuspiciousCopy':
        return findSuspicionNode(context, key.id);
      case 'Import':
        return findImportNode(context, key.id);
      case 'StageRequest':
        return findStageNode(context, key.id);
      case 'Publication':
        return findPublicationNode(context, key.id);
    }
  }
}

const refuse = () => {
  throw new Error('subscriptions read the event log; nothing is published in memory');
};
/** TypeGraphQL asks for one; all our subscriptions follow the log, which survives restarts. */
const logIsTheFeed = { publish: refuse, subscribe: refuse };

const accessResolvers = [
  ViewerResolver,
  TokenResolver,
  IdentityResolver,
  AuditTrailResolver,
  GroupResolver,
  EventResolver,
];
const runResolvers = [
  RunResolver,
  RunResultResolver,
  EventRunResolver,
  RunEventResolver,
  DqmResolver,
];
const fileResolvers = [
  FileResolver,
  FileResultResolver,
  RunFilesResolver,
  ParentageResolver,
  RelativeResolver,
  EventFileResolver,
];
const backupResolvers = [
  BackupResolver,
  BackupRequestResultResolver,
  FileBackupsResolver,
  MassStoreResolver,
  BackupPoliciesResolver,
  SweepResolver,
  BackupProgressResolver,
];
const datasetResolvers = [
  DatasetResolver,
  DatasetMutations,
  DatasetSharesResolver,
  DatasetFeedResolver,
  DatasetRunsResolver,
  DatasetRunResolver,
  RunsOfDatasetResolver,
  RunDatasetsResolver,
  FileDatasetsResolver,
  EventDatasetResolver,
];
const containerResolvers = [
  ContainerResolver,
  ContainerContentResolver,
  ContainerMemberResolver,
  ContainerDeltaResolver,
  ContainerChangeResolver,
  ContainerMutations,
  ContainerFeedResolver,
  DatasetContainersResolver,
  EventContainerResolver,
];
const productionResolvers = [
  RunProductionResolver,
  GoodRunsResolver,
  StuckResolver,
  StuckSweepResolver,
  StuckDatasetResolver,
  TotalsResolver,
];
const incidentResolvers = [
  IncidentResolver,
  IncidentItemResolver,
  IncidentDatasetResolver,
  IncidentMutations,
  IncidentTableResolver,
  IncidentProgressResolver,
  IncidentFeedResolver,
  BadMarkIncidentResolver,
  EventIncidentResolver,
  FileChecksResolver,
];
const noticeResolvers = [WebhookResolver, SuspicionResolver, AuditsResolver];
const importResolvers = [
  ImportResolver,
  ImportMutations,
  ImportProgressResolver,
  DatasetOriginResolver,
  FollowRuleResolver,
  ContainerOriginResolver,
  FollowedDatasetResolver,
];
const poolResolvers = [
  PoolResolver,
  FileLocalityResolver,
  DatasetLocalityResolver,
  StageResolver,
  StageMutations,
  StageProgressResolver,
];
const publicationResolvers = [
  PublicationResolver,
  PublicationMutations,
  PublicationProgressResolver,
];
const exportResolvers = [ExportResolver, ContainerExportResolver];

/** The whole schema; schema.graphql is printed from it. */
export function makeSchema(): GraphQLSchema {
  const schema = buildSchemaSync({
    resolvers: [
      NodeResolver,
      ...accessResolvers,
      ...runResolvers,
      ...fileResolvers,
      ...backupResolvers,
      ...datasetResolvers,
      ...containerResolvers,
      ...productionResolvers,
      ...incidentResolvers,
      ...importResolvers,
      ...publicationResolvers,
      ...noticeResolvers,
      ...poolResolvers,
      ...exportResolvers,
    ],
    scalarsMap: [{ type: Date, scalar: DateTime }],
    // Forms are checked by the rules, which name the field, the value and the way out.
    validate: false,
    pubSub: logIsTheFeed,
    nullableByDefault: false,
  });
  // TypeGraphQL has no place for what the three roots are.
  for (const [root, description] of [
    [schema.getQueryType(), 'What can be asked.'],
    [schema.getMutationType(), 'What can be done; a refusal is an error with a code.'],
    [schema.getSubscriptionType(), 'What can be followed, over WebSocket (graphql-transport-ws).'],
  ] as const) {
    if (root) root.description = description;
  }
  return schema;
}
