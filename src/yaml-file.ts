import { readFileSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { messageOf, SweepbookError, systemCode } from './errors.ts';

const mostBytes = 1024 * 1024;

/** A file of settings (YAML) in its form. BAD_USER_INPUT names `what`, the line and the field; NOT_FOUND the setting. */
export function readYamlFile<Form extends z.ZodType>(
  { path, what, setting }: { path: string; what: string; setting: string },
  form: Form,
): { readonly value: z.infer<Form>; readonly refuse: (why: string) => SweepbookError } {
  const refuse = (why: string) =>
    new SweepbookError('BAD_USER_INPUT', `${what} ${path}: ${why}`, { path });
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new SweepbookError(
      'NOT_FOUND',
      `${what} ${path} cannot be read (${systemCode(error)}): look at ${setting}`,
      { path },
      { cause: error },
    );
  }
  if (text.length > mostBytes) throw refuse('it has more than 1 MiB');
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const fault = document.errors[0];
  if (fault) throw refuse(fault.message);
  let given: unknown;
  try {
    // No anchors: nothing in such a file is so long that it must be shared.
    given = document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    throw refuse(messageOf(error));
  }
  const read = form.safeParse(given);
  if (read.success) return { value: read.data, refuse };
  const told = read.error.issues.slice(0, 20).map((issue) => {
    const node = document.getIn(issue.path.slice(0, -1), true) as { range?: [number] } | undefined;
    const at = node?.range ? `line ${lines.linePos(node.range[0]).line}, ` : '';
    return `${at}${issue.path.join('.') || 'the file'}: ${issue.message}`;
  });
  throw refuse(told.join('; '));
}
