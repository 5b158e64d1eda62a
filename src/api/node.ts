import { ID, Field, InterfaceType } from 'type-graphql';

/** The things that have an id. */
export const nodeNames = [
  'Dataset',
  'File',
  'Run',
  'BackupRecord',
  'Container',
  'Incident',
  'Webhook',
  'SuspiciousCopy',
  'Import',
  'StageRequest',
  'Publication',
] as const;
export type NodeName = (typeof nodeNames)[number];

/** A row on its way out as a Node: `node(id)` must know what it is. */
export const nodeName = Symbol('what a node is');

@InterfaceType('Node', {
  description: 'Anything that can be looked up again by its id (Relay).',
  resolveType: (value: { [nodeName]?: NodeName }) => value[nodeName],
})
export abstract class NodeType {
  @Field(() => ID, { description: 'Opaque; the same for good.' })
  id!: string;
}

export function writeNodeId(name: NodeName, id: number): string {
  return Buffer.from(`${name}:${id}`).toString('base64url');
}

/** What an id stands for; undefined when it is none of ours. */
export function readNodeId(id: string): { name: NodeName; id: number } | undefined {
  const text = id.length <= 100 ? Buffer.from(id, 'base64url').toString('utf8') : '';
  const parts = /^([A-Za-z]+):(\d{1,15})$/.exec(text);
  const name = nodeNames.find((known) => known === parts?.[1]);
  return name && parts ? { name, id: Number(parts[2]) } : undefined;
}
