import { Field, ObjectType, type ClassType } from 'type-graphql';
import type { Page } from '../database/page.ts';
import { SafeInt } from './scalars.ts';

@ObjectType('PageInfo', { description: 'Where a page ends and whether there is more (Relay).' })
export class PageInfo {
  @Field(() => Boolean, { description: 'There is more after this page.' })
  hasNextPage!: boolean;

  @Field(() => Boolean, { description: 'The page was asked for with a cursor.' })
  hasPreviousPage!: boolean;

  @Field(() => String, { nullable: true, description: 'Cursor of the first line of the page.' })
  startCursor!: string | null;

  @Field(() => String, {
    nullable: true,
    description: 'Cursor of the last line: give it as after.',
  })
  endCursor!: string | null;
}

export interface Connection<T> {
  readonly edges: readonly { readonly cursor: string; readonly node: T }[];
  readonly nodes: readonly T[];
  readonly pageInfo: PageInfo;
  readonly count: () => Promise<number>;
}

/** The Relay connection type of a node type. */
export function connectionType<T extends object>(name: string, nodeType: () => ClassType<T>) {
  @ObjectType(`${name}Edge`, { description: 'One line of a list.' })
  class Edge {
    @Field(() => String, { description: 'The place of this line in its list.' })
    cursor!: string;

    @Field(() => nodeType(), { description: 'What stands there.' })
    node!: T;
  }

  @ObjectType(`${name}Connection`, { description: 'A page of a list (Relay).' })
  class ConnectionOf {
    @Field(() => [Edge], { description: 'The lines, each with its cursor.' })
    edges!: Edge[];

    @Field(() => [nodeType()], { description: 'The lines without their cursors.' })
    nodes!: T[];

    @Field(() => PageInfo, { description: 'Whether there is more.' })
    pageInfo!: PageInfo;

    count!: () => Promise<number>;

    @Field(() => SafeInt, {
      description: 'How many there are in all; counted only when asked for.',
    })
    totalCount(): Promise<number> {
      return this.count();
    }
  }
  return ConnectionOf as unknown as ClassType<Connection<T>>;
}

/** A page of rows as a connection. */
export function toConnection<Row>(page: Page<Row>): Connection<Row> {
  return {
    edges: page.edges,
    nodes: page.edges.map((edge) => edge.node),
    pageInfo: {
      hasNextPage: page.hasNextPage,
      hasPreviousPage: page.hasPreviousPage,
      startCursor: page.edges[0]?.cursor ?? null,
      endCursor: page.edges.at(-1)?.cursor ?? null,
    },
    count: page.total,
  };
}

const defaultFirst = 50;
export const firstOptions = {
  nullable: true,
  defaultValue: defaultFirst,
  description: 'Lines a page.',
};
export const afterOptions = {
  nullable: true,
  description: 'Cursor of the last line of the page before.',
};
