import {
  Kind,
  Lexer,
  parse,
  Source,
  TokenKind,
  visit,
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type SelectionSetNode,
} from 'graphql';
import { SweepbookError } from '../errors.ts';
import { limitSetting, type LimitName, type Limits } from '../limits.ts';

/** The refusal of a question that asks for too much. */
export function tooComplex(
  limit: LimitName,
  what: string,
  most: number,
  found: number | string,
): SweepbookError {
  return new SweepbookError(
    'QUERY_TOO_COMPLEX',
    `the query has ${found} ${what}, the limit is ${most}: ask for less at once, or in pages`,
    { limit, what, most, setting: limitSetting(limit) },
  );
}

/**
 * Parses a document that is within the limits: QUERY_TOO_COMPLEX before anything is done that costs more than the text
 * is long. The parser calls itself for each bracket, and the rules of GraphQL compare fields with each other.
 */
export function readDocument(text: string, limits: Limits): DocumentNode {
  demandReadable(text, limits);
  const document = parse(text, { maxTokens: limits.tokens });
  demandShape(document, limits);
  return document;
}

const opening: ReadonlySet<string> = new Set([
  TokenKind.BRACE_L,
  TokenKind.PAREN_L,
  TokenKind.BRACKET_L,
]);
const closing: ReadonlySet<string> = new Set([
  TokenKind.BRACE_R,
  TokenKind.PAREN_R,
  TokenKind.BRACKET_R,
]);

function demandReadable(text: string, limits: Limits): void {
  if (text.length > limits.documentCharacters) {
    const most = limits.documentCharacters;
    throw tooComplex('documentCharacters', 'characters', most, text.length);
  }
  const lexer = new Lexer(new Source(text));
  let nesting = 0;
  for (let tokens = 1; lexer.advance().kind !== TokenKind.EOF; tokens++) {
    if (tokens > limits.tokens) {
      throw tooComplex('tokens', 'words and signs', limits.tokens, `more than ${limits.tokens}`);
    }
    const { kind } = lexer.token;
    if (opening.has(kind)) nesting++;
    else if (closing.has(kind)) nesting--;
    if (nesting > limits.nesting) {
      const most = limits.nesting;
      throw tooComplex('nesting', 'brackets within each other', most, `more than ${most}`);
    }
  }
}

function demandShape(document: DocumentNode, limits: Limits): void {
  const demand = (limit: LimitName, what: string, found: number) => {
    if (found > limits[limit]) throw tooComplex(limit, what, limits[limit], found);
  };
  const counted = countNodes(document);
  demand('aliases', 'aliases', counted.aliases);
  demand('directives', 'directives', counted.directives);
  demand('fragmentSpreads', 'uses of fragments', counted.spreads);
  demand('repeatedFields', 'fields that stand there once more', counted.repeated);
  demand('introspections', 'questions for the schema', counted.introspections);
  const fragments = new Map<string, FragmentDefinitionNode>();
  const operations: SelectionSetNode[] = [];
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) {
      fragments.set(definition.name.value, definition);
    } else if (definition.kind === Kind.OPERATION_DEFINITION) {
      operations.push(definition.selectionSet);
    }
  }
  demand('fragments', 'fragments', fragments.size);
  demand('documentOperations', 'operations', operations.length);
  const roots = new Measure(fragments, () => 1, sum);
  const depths: Measure = new Measure(
    fragments,
    // What the schema says of itself is deep by nature, and has a limit of its own.
    ({ name, selectionSet }) =>
      name.value.startsWith('__') ? 0 : 1 + (selectionSet ? depths.of(selectionSet) : 0),
    Math.max,
  );
  for (const set of operations) {
    demand('rootFields', 'root fields', roots.of(set));
    demand('depth', 'levels', depths.of(set));
  }
}

const sum = (one: number, other: number) => one + other;

function countNodes(document: DocumentNode) {
  const counted = { aliases: 0, directives: 0, spreads: 0, repeated: 0, introspections: 0 };
  visit(document, {
    Directive: () => void counted.directives++,
    FragmentSpread: () => void counted.spreads++,
    Field({ alias, name }) {
      if (alias) counted.aliases++;
      if (name.value === '__schema' || name.value === '__type') counted.introspections++;
    },
    SelectionSet(set, _key, parent) {
      // Those of inline fragments belong to the selection that they stand in.
      const isInline = parent && 'kind' in parent && parent.kind === Kind.INLINE_FRAGMENT;
      if (!isInline) counted.repeated += repeatedIn(set, new Set());
    },
  });
  return counted;
}

function repeatedIn({ selections }: SelectionSetNode, seen: Set<string>): number {
  let repeated = 0;
  for (const selection of selections) {
    if (selection.kind === Kind.INLINE_FRAGMENT) {
      repeated += repeatedIn(selection.selectionSet, seen);
    } else if (selection.kind === Kind.FIELD) {
      const name = (selection.alias ?? selection.name).value;
      if (seen.has(name)) repeated++;
      seen.add(name);
    }
  }
  return repeated;
}

/** A figure of a selection, from those of its fields; looks at each fragment once, so that nesting them costs nothing. */
class Measure {
  private readonly known = new Map<string, number>();

  constructor(
    private readonly fragments: ReadonlyMap<string, FragmentDefinitionNode>,
    private readonly ofField: (field: FieldNode) => number,
    private readonly join: (one: number, other: number) => number,
  ) {}

  of({ selections }: SelectionSetNode): number {
    let found = 0;
    for (const selection of selections) {
      if (selection.kind === Kind.FIELD) found = this.join(found, this.ofField(selection));
      else if (selection.kind === Kind.INLINE_FRAGMENT) {
        found = this.join(found, this.of(selection.selectionSet));
      } else found = this.join(found, this.ofFragment(selection.name.value));
    }
    return found;
  }

  private ofFragment(name: string): number {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    // Stands in while it is being counted: a circle is refused by a rule of GraphQL.
    this.known.set(name, 0);
    const fragment = this.fragments.get(name);
    const found = fragment ? this.of(fragment.selectionSet) : 0;
    this.known.set(name, found);
    return found;
  }
}
