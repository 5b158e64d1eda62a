import { z } from 'zod';
import type { Definition } from './limit-definition.ts';
import { limitsOfConnections } from './limits-of-connections.ts';
import { limitsOfRequests } from './limits-of-requests.ts';

/** All limits, by what they hold: each is a setting, a field of Limits and a line of docs/limits.md. */
export const limitGroups = { ...limitsOfRequests, ...limitsOfConnections };

type Groups = typeof limitGroups;
export type LimitName = { [Group in keyof Groups]: keyof Groups[Group] }[keyof Groups];

/** What may be asked of a server, on every road. */
export type Limits = Readonly<Record<LimitName, number>>;

const definitions = Object.assign({}, ...Object.values(limitGroups)) as Readonly<
  Record<LimitName, Definition>
>;
const names = Object.keys(definitions) as LimitName[];

/** `bodyBytes` is set by SWEEPBOOK_LIMIT_BODY_BYTES. */
export const limitSetting = (name: LimitName): `SWEEPBOOK_LIMIT_${string}` =>
  `SWEEPBOOK_LIMIT_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;

/** What a refusal tells of the limit that it comes from. */
export const limitFacts = (limit: LimitName, limits: Limits) => ({
  limit,
  most: limits[limit],
  setting: limitSetting(limit),
});

export const defaultLimits = Object.freeze(
  Object.fromEntries(names.map((name) => [name, definitions[name].default])),
) as Limits;

/** How each limit is read from its setting. */
export const limitForms: Readonly<Record<`SWEEPBOOK_LIMIT_${string}`, z.ZodType<number>>> =
  Object.fromEntries(
    names.map((name) => {
      const { default: otherwise, least, most, unit, what } = definitions[name];
      const range = `a whole number from ${least} to ${most}${unit && ` (${unit})`}`;
      const form = z
        .string()
        .regex(/^\d{1,12}$/, range)
        .transform(Number)
        .refine((value) => value >= least && value <= most, range)
        .optional()
        .transform((value) => value ?? otherwise);
      return [limitSetting(name), form.describe(`limit: ${what}`)];
    }),
  );

/** The limits, from settings that were read. */
export function limitsOf(read: Readonly<Record<string, unknown>>): Limits {
  return Object.freeze(
    Object.fromEntries(names.map((name) => [name, read[limitSetting(name)]])),
  ) as Limits;
}
