import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { badInput } from '../errors.ts';

/** An address that leads nowhere because it cannot be read; what else holds for requests does not come to it. */
export function refuseUnroutable(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  const isTooLong = error.statusCode === 414;
  const wayOut = isTooLong ? 'a name in it is too long' : 'its % escapes must be those of UTF-8';
  const { code, message, facts } = badInput('address', request.url, wayOut);
  void reply
    .header('x-request-id', request.id)
    .code(error.statusCode ?? 400)
    .send({ code, message, facts });
}
