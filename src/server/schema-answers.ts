import {
  execute,
  getOperationAST,
  Kind,
  OperationTypeNode,
  type DocumentNode,
  type ExecutionResult,
  type FormattedExecutionResult,
  type GraphQLSchema,
  type SelectionSetNode,
} from 'graphql';

export interface SchemaQuestion {
  readonly document: DocumentNode;
  readonly operationName?: string | null | undefined;
}

interface Kept {
  readonly answer: ExecutionResult;
  readonly text: string;
  /** As it is sent: to write a text of half a megabyte as UTF-8 takes longer than all else. */
  readonly bytes: Buffer;
}

/** So many different questions are remembered; tools ask the same few. */
const mostKept = 16;

/**
 * Answers to questions for the schema and nothing else, found out once: they are the largest there are to compute, and
 * the same for all who may ask.
 */
export class SchemaAnswers {
  private readonly schema: GraphQLSchema;
  /** By text and operation, the one that was asked for last at the end. */
  private readonly kept = new Map<string, Kept>();
  private readonly texts = new WeakMap<object, string>();

  constructor(schema: GraphQLSchema) {
    this.schema = schema;
  }

  /** undefined: it asks for something else, too, or has variables. The document is valid and within all limits. */
  answerTo({ document, operationName }: SchemaQuestion): ExecutionResult | undefined {
    const text = document.loc?.source.body;
    if (text === undefined || !isForSchemaAlone(document, operationName)) return undefined;
    const key = JSON.stringify([operationName ?? '', text]);
    const kept = this.kept.get(key) ?? this.findOut(document, operationName);
    if (!kept) return undefined;
    this.kept.delete(key);
    this.kept.set(key, kept);
    const [oldest] = this.kept.keys();
    if (this.kept.size > mostKept && oldest !== undefined) this.kept.delete(oldest);
    return kept.answer;
  }

  /** The text of an answer, for these written once; Apollo puts what is in it into another object. */
  textOf(answer: FormattedExecutionResult): string {
    const { data } = answer;
    return (data && this.texts.get(data)) ?? `${JSON.stringify(answer)}\n`;
  }

  /** The bytes of a text that was written by `textOf`, if they are at hand. */
  bytesOf(text: string): Buffer | undefined {
    for (const kept of this.kept.values()) {
      if (kept.text.length === text.length && kept.text === text) return kept.bytes;
    }
    return undefined;
  }

  private findOut(
    document: DocumentNode,
    operationName: string | null | undefined,
  ): Kept | undefined {
    const answer = execute({ schema: this.schema, document, operationName });
    if (answer instanceof Promise || answer.errors) return undefined;
    const text = `${JSON.stringify(answer)}\n`;
    if (answer.data) this.texts.set(answer.data, text);
    return { answer, text, bytes: Buffer.from(text) };
  }
}

function isForSchemaAlone(document: DocumentNode, name: string | null | undefined): boolean {
  const operation = getOperationAST(document, name);
  if (operation?.operation !== OperationTypeNode.QUERY || operation.variableDefinitions?.length)
    return false;
  const seen = new Set<string>();
  const isAlone = ({ selections }: SelectionSetNode): boolean =>
    selections.every((selection) => {
      if (selection.kind === Kind.FIELD) return selection.name.value.startsWith('__');
      if (selection.kind === Kind.INLINE_FRAGMENT) return isAlone(selection.selectionSet);
      const spread = selection.name.value;
      if (seen.has(spread)) return true;
      seen.add(spread);
      const fragment = document.definitions.find(
        (part) => part.kind === Kind.FRAGMENT_DEFINITION && part.name.value === spread,
      );
      return fragment?.kind === Kind.FRAGMENT_DEFINITION && isAlone(fragment.selectionSet);
    });
  return isAlone(operation.selectionSet);
}
