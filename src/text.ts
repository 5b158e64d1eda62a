/**
 * What moves the cursor, colours, breaks a line, or turns letters round: control characters (C0, C1), separators of
 * lines, marks of direction; and halves of characters, which no UTF-8 has.
 */
const unprintable =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Surrogate}/gu;
const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A text that cannot move the cursor, colour the terminal or break a line. */
export function visible(text: string): string {
  return text.replace(unprintable, (sign) => {
    const code = sign.charCodeAt(0);
    return (
      shortEscapes[sign] ??
      (code < 256
        ? `\\x${code.toString(16).padStart(2, '0')}`
        : `\\u${code.toString(16).padStart(4, '0')}`)
    );
  });
}

/** JSON in one line, with the same signs escaped: it means the same. */
export function visibleJson(value: unknown): string | undefined {
  // An undefined value has no JSON.
  const text: string | undefined = JSON.stringify(value);
  return text?.replace(
    unprintable,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A text that PostgreSQL keeps as it is, and that every program shows as one line. */
export function isLine(text: string): boolean {
  // eslint-disable-next-line no-control-regex
  return text.isWellFormed() && !/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(text);
}

/** PostgreSQL keeps no NUL, and UTF-8 no half of a character: nothing is called so. */
export const isKept = (text: string): boolean => !text.includes('\0') && text.isWellFormed();
