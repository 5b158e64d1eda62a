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
  type SelectionNode,
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
  const depths = new Depths(fragments);
  for (const set of operations) demand('depth', 'levels', depths.of(set));
  const overlaps = new Overlaps(fragments, limits.queryNodes);
  for (const set of operations) demand('rootFields', 'root fields', overlaps.add(set));
  for (const { selectionSet } of fragments.values()) overlaps.add(selectionSet);
  demand('samePlacePairs', 'pairs of fields for the same place', overlaps.pairs);
}

function countNodes(document: DocumentNode) {
  const counted = { aliases: 0, directives: 0, spreads: 0, introspections: 0 };
  visit(document, {
    Directive: () => void counted.directives++,
    FragmentSpread: () => void counted.spreads++,
    Field({ alias, name }) {
      if (alias) counted.aliases++;
      if (name.value === '__schema' || name.value === '__type') counted.introspections++;
    },
  });
  return counted;
}

type Fragments = ReadonlyMap<string, FragmentDefinitionNode>;

/** How deep fields stand within fields; looks at each fragment once, so that nesting them costs nothing. */
class Depths {
  private readonly known = new Map<string, number>();

  constructor(private readonly fragments: Fragments) {}

  of({ selections }: SelectionSetNode): number {
    return Math.max(...selections.map((selection) => this.ofSelection(selection)));
  }

  private ofSelection(selection: SelectionNode): number {
    if (selection.kind === Kind.FRAGMENT_SPREAD) return this.ofFragment(selection.name.value);
    if (selection.kind === Kind.INLINE_FRAGMENT) return this.of(selection.selectionSet);
    // What the schema says of itself is deep by nature, and has a limit of its own.
    if (selection.name.value.startsWith('__')) return 0;
    return 1 + (selection.selectionSet ? this.of(selection.selectionSet) : 0);
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

/** A place of the answer: what comes there, from wherever it is asked. */
class AnswerPlace {
  fields = 0;
  readonly below = new Map<string, AnswerPlace>();
  readonly spread = new Set<string>();
}

/** Fields that go to the same place of the answer: GraphQL compares each of them with each, and their fields too. */
class Overlaps {
  pairs = 0;
  private nodes = 0;
  private readonly spreading = new Set<string>();

  constructor(
    private readonly fragments: Fragments,
    private readonly mostNodes: number,
  ) {}

  /** Looks through a selection; returns its fields, with those of its fragments. */
  add(set: SelectionSetNode): number {
    return this.walk(set, new AnswerPlace());
  }

  private walk({ selections }: SelectionSetNode, place: AnswerPlace): number {
    let fields = 0;
    for (const selection of selections) {
      if (selection.kind === Kind.FIELD) {
        fields++;
        this.walkField(selection, place);
      } else if (selection.kind === Kind.INLINE_FRAGMENT) {
        fields += this.walk(selection.selectionSet, place);
      } else fields += this.walkFragment(selection.name.value, place);
    }
    return fields;
  }

  private walkField({ alias, name, selectionSet }: FieldNode, place: AnswerPlace): void {
    if (++this.nodes > this.mostNodes) {
      throw tooComplex('queryNodes', 'fields', this.mostNodes, `more than ${this.mostNodes}`);
    }
    const key = (alias ?? name).value;
    const at = place.below.get(key) ?? new AnswerPlace();
    place.below.set(key, at);
    this.pairs += at.fields++;
    if (selectionSet) this.walk(selectionSet, at);
  }

  private walkFragment(name: string, place: AnswerPlace): number {
    const fragment = this.fragments.get(name);
    // Once in a place, and a circle is refused by a rule of GraphQL.
    if (!fragment || place.spread.has(name) || this.spreading.has(name)) return 0;
    place.spread.add(name);
    this.spreading.add(name);
    const fields = this.walk(fragment.selectionSet, place);
    this.spreading.delete(name);
    return fields;
  }
}
