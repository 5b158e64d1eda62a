import { visit, type ASTNode, type DocumentNode, type GraphQLSchema } from 'graphql';
// Its ESM build takes graphql's .mjs files, a second copy of the library that does not know our schema.
import { getComplexity } from 'graphql-query-complexity/cjs';
import { badInput, SweepbookError } from '../errors.ts';
import { limitFacts, type Limits } from '../limits.ts';
import { tooComplex } from './document.ts';
import { SchemaParts, SchemaSize } from './schema-size.ts';

/** Names of the variables that decide how much comes back: those of page sizes, of directives and of `__type`. */
function decidingVariables(document: DocumentNode): string[] {
  const found = new Set<string>();
  const collect = (node: ASTNode) =>
    visit(node, { Variable: ({ name }) => void found.add(name.value) });
  visit(document, {
    Argument: (node) => void (node.name.value === 'first' && collect(node)),
    Field: (node) => void (node.name.value === '__type' && collect(node)),
    Directive: (node) => void collect(node),
  });
  return [...found];
}

interface Measured {
  readonly deciding: readonly string[];
  /** By operation and values of the deciding variables: what was found to be within the limit. */
  readonly allowed: Map<string, number>;
}

const mostAllowed = 100;
const schemaQuestions: ReadonlySet<string> = new Set(['__schema', '__type']);

/** An operation, and what it is asked with. */
export interface Asked {
  readonly document: DocumentNode;
  readonly variables: Record<string, unknown>;
  readonly operationName: string | undefined;
}

/** Counts how much may come back, before anything is asked. */
export class Complexity {
  private readonly measured = new WeakMap<DocumentNode, Measured>();
  private readonly parts: SchemaParts;

  constructor(
    readonly schema: GraphQLSchema,
    readonly limits: Limits,
  ) {
    this.parts = new SchemaParts(schema);
  }

  /**
   * Fields that may come back; throws QUERY_TOO_COMPLEX. Needs a valid document. What was allowed once is not counted
   * again: a bulk call would have its 10,000 items looked through for nothing.
   */
  demand(asked: Asked): number {
    const { document, variables, operationName } = asked;
    const known = this.measured.get(document) ?? {
      deciding: decidingVariables(document),
      allowed: new Map(),
    };
    this.measured.set(document, known);
    const key = JSON.stringify([operationName, known.deciding.map((name) => variables[name])]);
    const allowed = known.allowed.get(key);
    if (allowed !== undefined) return allowed;
    const found = this.count(asked);
    if (known.allowed.size < mostAllowed) known.allowed.set(key, found);
    return found;
  }

  private count({ document, variables, operationName }: Asked): number {
    const { schema, limits } = this;
    const schemaSize = new SchemaSize(this.parts, document, limits.complexity);
    let longest = 0;
    let found: number;
    try {
      found = getComplexity({
        schema,
        query: document,
        variables,
        ...(operationName === undefined ? {} : { operationName }),
        maxQueryNodes: limits.queryNodes,
        estimators: [
          ({ args, childComplexity, field, node }) => {
            // What the schema says of itself has no page size.
            if (schemaQuestions.has(field.name)) return schemaSize.of(node, args['name']);
            const first: unknown = args['first'];
            const lines = typeof first === 'number' && first > 0 ? first : 1;
            longest = Math.max(longest, lines);
            return 1 + lines * childComplexity;
          },
        ],
      });
    } catch (error) {
      if (error instanceof Error && error.message.includes('maximum allowed number of nodes')) {
        throw tooComplex('queryNodes', 'fields', limits.queryNodes, 'too many');
      }
      throw error;
    }
    if (found > limits.complexity) {
      throw tooComplex('complexity', 'fields to answer', limits.complexity, found);
    }
    if (longest > limits.pageSize) {
      const why = `a page has at most ${limits.pageSize} lines here`;
      const { code, message, facts } = badInput('first', longest, why);
      throw new SweepbookError(code, message, { ...facts, ...limitFacts('pageSize', limits) });
    }
    return found;
  }
}
