import { Arg, Ctx, Mutation, Resolver } from 'type-graphql';
import type { Context } from '../api/context.ts';
import { loadContainers } from './containers.resolver.ts';
import {
  ContainerDatasetsInput,
  ContainerPayload,
  CreateContainerInput,
} from './containers.schema.ts';
import {
  addToContainer,
  createContainer,
  removeFromContainer,
  type ContainerResult,
} from './containers.service.ts';

async function changedContainer(context: Context, result: ContainerResult) {
  context.means.ring();
  const { containerId, ...answer } = result;
  return { container: await context.load(loadContainers, containerId), ...answer };
}

@Resolver()
export class ContainerMutations {
  @Mutation(() => ContainerPayload, {
    description:
      'Creates a container, with its first datasets if given. DUPLICATE (name taken), NOT_FOUND, ' +
      'DATASET_NOT_CLOSED, DATASET_BAD. For producers.',
  })
  async createContainer(
    @Ctx() context: Context,
    @Arg('input', () => CreateContainerInput, { description: 'The container.' })
    input: CreateContainerInput,
  ) {
    const { idempotencyKey, ...wanted } = input;
    return changedContainer(
      context,
      await createContainer(context.db, context.viewer, wanted, idempotencyKey),
    );
  }

  @Mutation(() => ContainerPayload, {
    description:
      'Puts closed datasets in, as one line of its history; all or none. NOT_FOUND, DATASET_NOT_CLOSED, DATASET_BAD, ' +
      'STALE_VERSION. For its owner and operators.',
  })
  async addToContainer(
    @Ctx() context: Context,
    @Arg('input', () => ContainerDatasetsInput, { description: 'Container and datasets.' })
    input: ContainerDatasetsInput,
  ) {
    return changedContainer(context, await addToContainer(context.db, context.viewer, input));
  }

  @Mutation(() => ContainerPayload, {
    description:
      'Takes datasets out, with the reason, as one line of its history; all or none. One that is bad now does not ' +
      'come back when it is cleared. NOT_FOUND, STALE_VERSION. For its owner and operators.',
  })
  async removeFromContainer(
    @Ctx() context: Context,
    @Arg('input', () => ContainerDatasetsInput, { description: 'Container, datasets and reason.' })
    input: ContainerDatasetsInput,
  ) {
    return changedContainer(context, await removeFromContainer(context.db, context.viewer, input));
  }
}
