import { ArrayType } from '@mikro-orm/core';

/** Texts as a column of PostgreSQL: each in quotes, since NULL without them would be no text at all. */
export class TextArray extends ArrayType {
  override convertToDatabaseValue(value: string[] | null): string | null {
    return value && `{${value.map((text) => `"${text.replaceAll(/["\\]/g, '\\$&')}"`).join(',')}}`;
  }
}
