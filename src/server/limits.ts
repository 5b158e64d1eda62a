import {
  GraphQLError,
  Kind,
  visit,
  type ASTNode,
  type ASTVisitor,
  type DocumentNode,
  type FragmentDefinitionNode,
  type GraphQLSchema,
  type SelectionSetNode,
  type ValidationContext,
  type ValidationRule,
} from 'graphql';
// Its ESM build takes graphql's .mjs files, a second copy of the library that does not know our schema.
import { getComplexity } from 'graphql-query-complexity/cjs';

/** What one operation may ask for, on every road. */
export const limits = {
  tokens: 5000,
  depth: 12,
  aliases: 200,
  directives: 50,
  rootFields: 50,
  /** Fields that may come back, lists counted with their page size. */
  complexity: 60_000,
  /** Nodes that are looked at to count them. */
  queryNodes: 10_000,
  webSocketMessageBytes: 1024 * 1024,
  /** Operations at once on one WebSocket. */
  operationsPerSocket: 100,
  sockets: 2000,
  /** HTTP requests of one principal at once; all who show no token are one. */
  requestsInFlight: 256,
  /** Lists of files under way, of one principal and of all; each holds two pages of lines in memory. */
  exports: 32,
  exportsInAll: 96,
  /** Manifests that one principal sends at once. */
  manifests: 4,
  /** A reader of a list who takes nothing for so long has gone. */
  exportStallMs: 300_000,
  /** How long lists may take to end when the server goes down. */
  exportGraceMs: 5000,
  /** A bulk call of 10,000 files is about 5 MB. */
  bodyBytes: 32 * 1024 * 1024,
  anonymousBodyBytes: 256 * 1024,
} as const;

function tooComplex(what: string, most: number, found: number | string): GraphQLError {
  return new GraphQLError(
    `the query has ${found} ${what}, the limit is ${most}: ask for less at once, or in pages`,
    {
      extensions: { code: 'QUERY_TOO_COMPLEX', facts: { what, most } },
    },
  );
}

/** Depth, aliases, directives and root fields; looks at each fragment once, so that nesting them costs nothing. */
export const shapeRule: ValidationRule = (context: ValidationContext): ASTVisitor => {
  let aliases = 0;
  let directives = 0;
  return {
    Directive: () => void directives++,
    Field(node) {
      if (node.alias) aliases++;
    },
    Document: {
      leave(document) {
        const depths = new DepthCounter(document);
        const report = (what: string, most: number, found: number) => {
          if (found > most) context.reportError(tooComplex(what, most, found));
        };
        report('aliases', limits.aliases, aliases);
        report('directives', limits.directives, directives);
        for (const definition of document.definitions) {
          if (definition.kind !== Kind.OPERATION_DEFINITION) continue;
          report('root fields', limits.rootFields, definition.selectionSet.selections.length);
          report('levels', limits.depth, depths.of(definition.selectionSet));
        }
      },
    },
  };
};

class DepthCounter {
  private readonly fragments = new Map<string, FragmentDefinitionNode>();
  private readonly known = new Map<string, number>();

  constructor(document: DocumentNode) {
    for (const definition of document.definitions) {
      if (definition.kind === Kind.FRAGMENT_DEFINITION)
        this.fragments.set(definition.name.value, definition);
    }
  }

  of(set: SelectionSetNode): number {
    let deepest = 0;
    for (const selection of set.selections) {
      if (selection.kind === Kind.FRAGMENT_SPREAD) {
        deepest = Math.max(deepest, this.ofFragment(selection.name.value));
      } else if (selection.kind === Kind.INLINE_FRAGMENT) {
        deepest = Math.max(deepest, this.of(selection.selectionSet));
      } else if (!selection.name.value.startsWith('__')) {
        // What the schema says of itself is deep by nature, and small.
        deepest = Math.max(
          deepest,
          1 + (selection.selectionSet ? this.of(selection.selectionSet) : 0),
        );
      }
    }
    return deepest;
  }

  private ofFragment(name: string): number {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    // Stands in while it is being counted: a circle is refused by another rule.
    this.known.set(name, 0);
    const fragment = this.fragments.get(name);
    const depth = fragment ? this.of(fragment.selectionSet) : 0;
    this.known.set(name, depth);
    return depth;
  }
}

/** Names of the variables that decide how much comes back: those of page sizes and of directives. */
export function decidingVariables(document: DocumentNode): string[] {
  const found = new Set<string>();
  const collect = (node: ASTNode) =>
    visit(node, { Variable: ({ name }) => void found.add(name.value) });
  visit(document, {
    Argument: (node) => void (node.name.value === 'first' && collect(node)),
    Directive: (node) => void collect(node),
  });
  return [...found];
}

interface Measured {
  readonly deciding: readonly string[];
  /** Operation and values of the deciding variables that were found to be within the limit. */
  readonly allowed: Set<string>;
}

const measured = new WeakMap<DocumentNode, Measured>();
const mostAllowed = 100;

/**
 * How much may come back; throws QUERY_TOO_COMPLEX. Needs a valid document. What was allowed once is not counted again:
 * a bulk call would have its 10,000 items looked through for nothing.
 */
export function demandComplexity(
  schema: GraphQLSchema,
  document: DocumentNode,
  variables: Record<string, unknown>,
  operationName: string | undefined,
): void {
  const known = measured.get(document) ?? {
    deciding: decidingVariables(document),
    allowed: new Set(),
  };
  measured.set(document, known);
  const asked = JSON.stringify([operationName, known.deciding.map((name) => variables[name])]);
  if (known.allowed.has(asked)) return;
  countComplexity(schema, document, variables, operationName);
  if (known.allowed.size < mostAllowed) known.allowed.add(asked);
}

function countComplexity(
  schema: GraphQLSchema,
  document: DocumentNode,
  variables: Record<string, unknown>,
  operationName: string | undefined,
): void {
  let complexity: number;
  try {
    complexity = getComplexity({
      schema,
      query: document,
      variables,
      ...(operationName === undefined ? {} : { operationName }),
      maxQueryNodes: limits.queryNodes,
      estimators: [
        ({ args, childComplexity }) => {
          const first: unknown = args['first'];
          const lines = typeof first === 'number' && first > 0 ? first : 1;
          return 1 + lines * childComplexity;
        },
      ],
    });
  } catch (error) {
    if (error instanceof Error && error.message.includes('maximum allowed number of nodes')) {
      throw tooComplex('nodes', limits.queryNodes, 'too many');
    }
    throw error;
  }
  if (complexity > limits.complexity)
    throw tooComplex('fields to answer', limits.complexity, complexity);
}
