// eslint-disable-next-line no-control-regex
const unprintable = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;
const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A text that cannot move the cursor, colour the terminal or break a line. */
export function visible(text: string): string {
  return text.replace(unprintable, (sign) => {
    const code = sign.charCodeAt(0);
    return (
      shortEscapes[sign] ??
      (code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`)
    );
  });
}
