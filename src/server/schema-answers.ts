import {
  getOperationAST,
  Kind,
  OperationTypeNode,
  printSchema,
  type DocumentNode,
  type FormattedExecutionResult,
  type GraphQLSchema,
  type SelectionSetNode,
} from 'graphql';
import { Piscina } from 'piscina';
import { SweepbookError } from '../errors.ts';
import { defaultLimits, limitFacts, type Limits } from '../limits.ts';
import { threadFile } from '../threads.ts';
import { Lanes } from './lanes.ts';
import type { SchemaTask } from './schema-answers.thread.ts';

export interface SchemaQuestion {
  readonly document: DocumentNode;
  readonly operationName?: string | null | undefined;
}

export interface SchemaAnswer {
  readonly text: string;
  /** As it is sent: to write a text of half a megabyte as UTF-8 takes longer than all else. */
  readonly bytes: Buffer;
  /** What Apollo gets to hand on to `textOf`: as objects the answer is ten times as large. */
  readonly standIn: FormattedExecutionResult;
}

interface Kept {
  readonly finding: Promise<SchemaAnswer>;
  found?: SchemaAnswer;
}

/** So many different questions are remembered; tools ask the same few. */
const mostKept = 16;

/**
 * Answers to questions for the schema and nothing else, found out once and in a thread of its own: nothing else takes so
 * long at one go, and they are the same for all who may ask.
 */
export class SchemaAnswers {
  private thread: Piscina<SchemaTask, string> | undefined;
  /** Who asks many different things waits for the one before, and nobody else does. */
  private readonly lanes = new Lanes(1);
  /** By text and operation, the one that was asked for last at the end. */
  private readonly kept = new Map<string, Kept>();
  private readonly texts = new WeakMap<object, string>();

  constructor(
    private readonly schema: GraphQLSchema,
    private readonly limits: Limits = defaultLimits,
  ) {}

  /**
   * What is asked by whom (key of the payer); undefined: it asks for something else, too, or has variables. The document
   * is valid and within all limits. UNAVAILABLE when it takes too long.
   */
  answerTo(
    { document, operationName }: SchemaQuestion,
    payer: string,
  ): Promise<SchemaAnswer> | undefined {
    const text = document.loc?.source.body;
    if (text === undefined || !isForSchemaAlone(document, operationName)) return undefined;
    const key = JSON.stringify([operationName ?? '', text]);
    const task = { text, operationName: operationName ?? undefined };
    const kept = this.kept.get(key) ?? this.find(key, task, payer);
    this.kept.delete(key);
    this.kept.set(key, kept);
    const [oldest] = this.kept.keys();
    if (this.kept.size > mostKept && oldest !== undefined) this.kept.delete(oldest);
    return kept.finding;
  }

  /** The text of an answer, or of what stands in for it; Apollo puts what is in that into another object. */
  textOf(answer: FormattedExecutionResult): string {
    const { data } = answer;
    return (data && this.texts.get(data)) ?? `${JSON.stringify(answer)}\n`;
  }

  /** The bytes of a text that was written by `textOf`, if they are at hand. */
  bytesOf(text: string): Buffer | undefined {
    for (const { found } of this.kept.values()) {
      if (found?.text.length === text.length && found.text === text) return found.bytes;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await this.thread?.destroy();
  }

  private find(key: string, task: SchemaTask, payer: string): Kept {
    const finding = this.lanes.run(payer, () => this.ask(task));
    const kept: Kept = { finding };
    finding.then(
      (found) => (kept.found = found),
      // Asked again, it is tried again.
      () => this.kept.get(key) === kept && this.kept.delete(key),
    );
    return kept;
  }

  private async ask(task: SchemaTask): Promise<SchemaAnswer> {
    this.thread ??= new Piscina<SchemaTask, string>({
      filename: threadFile('schema-answers', import.meta.url),
      name: 'answer',
      workerData: printSchema(this.schema),
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: 60_000,
      // Else it lets its garbage lie: a hundred megabytes of it.
      resourceLimits: { maxOldGenerationSizeMb: 96, maxYoungGenerationSizeMb: 4 },
    });
    const signal = AbortSignal.timeout(this.limits.schemaMilliseconds);
    const text = await this.thread.run(task, { signal }).catch((error: unknown) => {
      if (!signal.aborted) throw error;
      const why = 'the schema cannot be told right now: try again in a moment';
      const facts = limitFacts('schemaMilliseconds', this.limits);
      throw new SweepbookError('UNAVAILABLE', why, facts, { cause: error });
    });
    const data = {};
    this.texts.set(data, text);
    return { text, bytes: Buffer.from(text), standIn: { data } };
  }
}

/** `__typename` is told where it stands: no thread is asked for it alone. */
function isForSchemaAlone(document: DocumentNode, name: string | null | undefined): boolean {
  const operation = getOperationAST(document, name);
  if (operation?.operation !== OperationTypeNode.QUERY || operation.variableDefinitions?.length)
    return false;
  const seen = new Set<string>();
  let isForSchema = false;
  const isAlone = ({ selections }: SelectionSetNode): boolean =>
    selections.every((selection) => {
      if (selection.kind === Kind.FIELD) {
        isForSchema ||= selection.name.value !== '__typename';
        return selection.name.value.startsWith('__');
      }
      if (selection.kind === Kind.INLINE_FRAGMENT) return isAlone(selection.selectionSet);
      const spread = selection.name.value;
      if (seen.has(spread)) return true;
      seen.add(spread);
      const fragment = document.definitions.find(
        (part) => part.kind === Kind.FRAGMENT_DEFINITION && part.name.value === spread,
      );
      return fragment?.kind === Kind.FRAGMENT_DEFINITION && isAlone(fragment.selectionSet);
    });
  return isAlone(operation.selectionSet) && isForSchema;
}
