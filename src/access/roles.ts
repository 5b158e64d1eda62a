/** Roles that a token can carry; ANONYMOUS is whoever shows none. */
export const roles = ['USER', 'DQM', 'PRODUCER', 'IMPORTER', 'OPERATOR', 'ADMIN'] as const;
export type Role = (typeof roles)[number];
export type AnyRole = Role | 'ANONYMOUS';
export const anyRoles = ['ANONYMOUS', ...roles] as const;
