import {
  getOperationAST,
  getVariableValues,
  GraphQLError,
  Kind,
  OperationTypeNode,
  specifiedRules,
  validate,
  visit,
  type ASTNode,
  type DocumentNode,
  type FragmentDefinitionNode,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql';
import type { Viewer } from '../access/policy.ts';
import { free, type Purse } from '../api/context.ts';
import { notReadable } from '../api/json-text.ts';
import { lateArguments } from '../api/read-model.ts';
import { NotReadable, readStatement } from '../api/read-statement.ts';
import type { Given } from '../database/late.ts';
import { writeStatement, type ReadPool, type WrittenStatement } from '../database/read-pool.ts';
import { isKept } from '../text.ts';
import { brokenOff, isPassing, postgresCode, unstorable } from '../database/transaction.ts';
import { messageOf, SweepbookError } from '../errors.ts';
import type { OpenStores } from '../storage/open.ts';
import type { Complexity } from './complexity.ts';
import { readDocument } from './document.ts';
import { asksForSchema } from './introspection.ts';
import { readModels } from './read-models.ts';

/** As it came; what does not fit is left to the plain road, which says why. */
export interface AskedQuery {
  readonly query: string;
  readonly operationName: string | undefined;
  readonly variables: Record<string, unknown>;
}

interface FastLog {
  warn(facts: object, message: string): void;
}

/** A document that was read and checked once. */
interface Prepared {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
  readonly fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  readonly variables: VariableUses;
  /** By viewer, and by the values of the variables that it depends on. */
  readonly statements: Map<string, WrittenStatement>;
  /** Took too long as one statement: by performance.now(), until then it is for the resolvers, which ask in parts. */
  slowUntil: number;
}

/** What the variables of a document are for. */
interface VariableUses {
  /** They are parameters of the statement and nothing else. */
  readonly late: ReadonlySet<string>;
  readonly hasDirectives: boolean;
}

/** How long the resolvers alone are asked what took too long, or anything when the database is away. */
const slowRestMs = 60_000;
const awayRestMs = 2000;
const mostDocuments = 500;
const longestDocument = 16 * 1024;
const mostStatements = 50;
/** Of documents and statements in all, roughly; then all are forgotten. A parsed document takes many times its text. */
const mostBytes = 64 * 1024 * 1024;
const parsedBytesPerSign = 50;

/**
 * The fast road of queries: checked as on the plain one, answered by one statement that returns the JSON text. It answers
 * or passes on: whatever it does not know, and whatever is to be refused, is for the plain road.
 */
export class FastReads {
  /** The last used is the last. undefined = not for this road. */
  private readonly documents = new Map<string, Prepared | undefined>();
  private keptBytes = 0;
  private awayUntil = 0;

  constructor(
    private readonly complexity: Complexity,
    private readonly stores: OpenStores,
    private readonly pool: ReadPool,
    private readonly log: FastLog,
  ) {}

  /** The text of the answer; undefined = to be answered by the plain road. */
  async answer(
    asked: AskedQuery,
    viewer: Viewer,
    purse: Purse = free,
  ): Promise<string | undefined> {
    const now = performance.now();
    if (now < this.awayUntil) return undefined;
    const prepared = this.prepared(asked);
    if (!prepared || now < prepared.slowUntil) return undefined;
    try {
      const given = this.given(prepared, asked);
      if (!given) return undefined;
      purse.pay(given.fields);
      const statement = this.statement(prepared, given.values, viewer);
      const leave = await purse.begin();
      const data = await this.pool.text(statement, given.values).finally(leave);
      if (data === null || data.includes(notReadable)) return undefined;
      return `{"data":${data}}\n`;
    } catch (error) {
      this.passOn(asked, prepared, error);
      return undefined;
    }
  }

  /** The root fields of a query that was answered, and what its client calls it. */
  fieldsOf(asked: AskedQuery): { fields: string[]; operation: string | undefined } {
    const prepared = this.documents.get(keyOf(asked));
    const fields = new Set<string>();
    const collect = ({ selections }: SelectionSetNode) => {
      for (const selection of selections) {
        if (selection.kind === Kind.FIELD) fields.add(selection.name.value);
        else if (selection.kind === Kind.INLINE_FRAGMENT) collect(selection.selectionSet);
        else {
          const fragment = prepared?.fragments.get(selection.name.value);
          if (fragment) collect(fragment.selectionSet);
        }
      }
    };
    if (prepared) collect(prepared.operation.selectionSet);
    return { fields: [...fields], operation: prepared?.operation.name?.value };
  }

  /** Why it is for the plain road; and for how long, lest everybody wait twice. */
  private passOn(asked: AskedQuery, prepared: Prepared, error: unknown): void {
    if (error instanceof NotReadable && !prepared.variables.hasDirectives) {
      this.keep(asked, undefined);
    }
    if (isForPlainRoad(error)) return;
    if (postgresCode(error) === brokenOff) {
      prepared.slowUntil = performance.now() + slowRestMs;
      return;
    }
    if (isPassing(error)) this.awayUntil = performance.now() + awayRestMs;
    this.log.warn({ error: messageOf(error) }, 'a fast read failed: the resolvers answer');
  }

  /** The coerced variables of a request that is within the limits, and what it may answer. Throws QUERY_TOO_COMPLEX. */
  private given(
    prepared: Prepared,
    { operationName, variables }: AskedQuery,
  ): { readonly values: Given; readonly fields: number } | undefined {
    const { document, operation } = prepared;
    const definitions = operation.variableDefinitions ?? [];
    const { coerced } = getVariableValues(this.complexity.schema, definitions, variables, {
      maxErrors: 1,
    });
    if (!coerced || Object.values(coerced).some(isUnkept)) return undefined;
    const fields = this.complexity.demand({ document, variables, operationName });
    return { values: coerced, fields };
  }

  private statement(prepared: Prepared, given: Given, viewer: Viewer): WrittenStatement {
    const { operation, fragments, statements, variables } = prepared;
    const late = new Set<string>();
    const { principal, roles, scopes, sites, groups } = viewer;
    const fixed: unknown[] = [principal, roles, scopes, sites, groups];
    for (const [name, value] of Object.entries(given)) {
      // What is null or empty is another question: it goes into the statement.
      if (value != null && value !== '' && variables.late.has(name)) late.add(name);
      else fixed.push(name, value);
    }
    const key = JSON.stringify([fixed, [...late]]);
    const known = statements.get(key);
    if (known) return known;
    const { stores } = this;
    const { schema } = this.complexity;
    const statement = writeStatement(
      readStatement(
        { schema, selectionSet: operation.selectionSet, fragments, variables: given, late },
        readModels,
        { viewer, stores },
      ),
      viewer.principal,
    );
    if (statements.size >= mostStatements) statements.clear();
    statements.set(key, statement);
    this.count(statement.text.length + key.length);
    return statement;
  }

  private prepared(asked: AskedQuery): Prepared | undefined {
    const key = keyOf(asked);
    if (this.documents.has(key)) {
      const known = this.documents.get(key);
      this.documents.delete(key);
      this.documents.set(key, known);
      return known;
    }
    if (asked.query.length > longestDocument) return undefined;
    const prepared = this.prepare(asked);
    this.keep(asked, prepared);
    this.count(asked.query.length * parsedBytesPerSign);
    return prepared;
  }

  private count(bytes: number): void {
    this.keptBytes += bytes;
    if (this.keptBytes <= mostBytes) return;
    this.keptBytes = 0;
    this.documents.clear();
  }

  private keep(asked: AskedQuery, prepared: Prepared | undefined): void {
    this.documents.set(keyOf(asked), prepared);
    if (this.documents.size <= mostDocuments) return;
    for (const oldest of this.documents.keys()) {
      this.documents.delete(oldest);
      return;
    }
  }

  private prepare({ query, operationName }: AskedQuery): Prepared | undefined {
    try {
      const document = readDocument(query, this.complexity.limits);
      const operation = getOperationAST(document, operationName);
      if (operation?.operation !== OperationTypeNode.QUERY || asksForSchema(document)) {
        return undefined;
      }
      const faults = validate(this.complexity.schema, document, specifiedRules, { maxErrors: 1 });
      if (faults.length > 0) return undefined;
      const fragments = document.definitions.filter(
        (definition) => definition.kind === Kind.FRAGMENT_DEFINITION,
      );
      return {
        document,
        operation,
        fragments: new Map(fragments.map((fragment) => [fragment.name.value, fragment])),
        variables: variableUses(document),
        statements: new Map(),
        slowUntil: 0,
      };
    } catch (error) {
      if (error instanceof GraphQLError || error instanceof SweepbookError) return undefined;
      throw error;
    }
  }
}

const keyOf = ({ query, operationName }: AskedQuery) => `${operationName ?? ''}\n${query}`;

/** Refusals, and texts that PostgreSQL does not keep: the plain road says it in its own words. */
function isForPlainRoad(error: unknown): boolean {
  if (error instanceof NotReadable || error instanceof SweepbookError) return true;
  if (error instanceof GraphQLError) return true;
  return unstorable.has(postgresCode(error) ?? '');
}

const isUnkept = (value: unknown) => typeof value === 'string' && !isKept(value);

function variableUses(document: DocumentNode): VariableUses {
  const late = new Set<string>();
  const fixed = new Set<string>();
  let hasDirectives = false;
  const variablesIn = (node: ASTNode) => {
    const found: string[] = [];
    visit(node, { Variable: ({ name }) => void found.push(name.value) });
    return found;
  };
  visit(document, {
    Argument({ name, value }) {
      const names = variablesIn(value);
      const isLate = value.kind === Kind.VARIABLE && lateArguments.has(name.value);
      for (const variable of names) (isLate ? late : fixed).add(variable);
    },
    Directive() {
      hasDirectives = true;
    },
  });
  for (const variable of fixed) late.delete(variable);
  return { late, hasDirectives };
}
