"""Convolution, in compiled code of your own: a net of two convolutional layers learns MNIST's handwritten digits.

A convolution is a dense layer on patches: each patch of a picture is a row, each filter a row of W. So the kernels of
dense layers do all the arithmetic; what is left is to cut patches out, and to sum their gradients where they overlap.
"""

import numpy as np
from common import options, panels, save
from numba import njit
from training import dense, dense_gradient, layers, mnist, start, train

from fastnn.kernels import CROSS_ENTROPY, LINEAR, RELU
from fastnn.kernels.cpu import loss_backward, loss_forward

SIZE, STEP = 5, 2  # of a patch, and from one to the next: of 28 x 28 pixels 12 x 12 patches, of these 4 x 4
SHAPES = (16, SIZE * SIZE), (32, SIZE * SIZE * 16), (10, 4 * 4 * 32)  # of W: filters x elements of a patch, twice


@njit
def patches(pictures, channels):
    """Patches (m * rows * columns, SIZE * SIZE * channels) of pictures (m, height, width * channels)."""
    m, height, width = pictures.shape
    line, step = SIZE * channels, STEP * channels
    rows, columns = (height - SIZE) // STEP + 1, (width - line) // step + 1
    out = np.empty((m * rows * columns, SIZE * line), pictures.dtype)
    for p in range(len(out)):
        picture, row, column = p // columns // rows, p // columns % rows * STEP, p % columns * step
        for i in range(SIZE):
            for j in range(line):
                out[p, i * line + j] = pictures[picture, row + i, column + j]
    return out


@njit
def patches_gradient(dPatches, channels, dPictures):
    """Write the sum of what the patches say of each pixel."""
    _, height, width = dPictures.shape
    line, step = SIZE * channels, STEP * channels
    rows, columns = (height - SIZE) // STEP + 1, (width - line) // step + 1
    dPictures[:] = 0
    for p in range(len(dPatches)):
        picture, row, column = p // columns // rows, p // columns % rows * STEP, p % columns * step
        for i in range(SIZE):
            for j in range(line):
                dPictures[picture, row + i, column + j] += dPatches[p, i * line + j]


@njit
def forward(theta, pictures):
    """Inputs and outputs of the three layers, the last of which are logits."""
    (W1, b1), (W2, b2), (W3, b3) = layers(theta, SHAPES)
    X1 = patches(pictures, 1)
    A1 = dense(X1, W1, b1, RELU)  # a row a patch, a column a filter: again pictures, of 16 channels
    X2 = patches(A1.reshape((-1, 12, 12 * 16)), 16)
    A2 = dense(X2, W2, b2, RELU)
    X3 = A2.reshape((-1, 4 * 4 * 32))
    return X1, A1, X2, A2, X3, dense(X3, W3, b3, LINEAR)


@njit
def gradient(theta, pictures, y, grad):
    """Write the gradient of the mean cross-entropy; gives the latter."""
    X1, A1, X2, A2, X3, Z = forward(theta, pictures)
    (W1, _), (W2, _), (W3, _) = layers(theta, SHAPES)
    (dW1, db1), (dW2, db2), (dW3, db3) = layers(grad, SHAPES)
    dZ, dX3, dX2, dA1 = np.empty_like(Z), np.empty_like(X3), np.empty_like(X2), np.empty_like(A1)
    equal, unwanted = np.empty(0, Z.dtype), np.empty((0, 0), Z.dtype)
    loss_backward(CROSS_ENTROPY, 0.0, Z, y, equal, dZ)
    dense_gradient(dZ, Z, X3, W3, LINEAR, dX3, dW3, db3)
    dense_gradient(dX3.reshape(A2.shape), A2, X2, W2, RELU, dX2, dW2, db2)
    patches_gradient(dX2, 16, dA1.reshape((-1, 12, 12 * 16)))
    dense_gradient(dA1, A1, X1, W1, RELU, unwanted, dW1, db1)
    return loss_forward(CROSS_ENTROPY, 0.0, Z, y, equal)


def tiled(pictures, columns=4):
    """Pictures (n, height, width) side by side, with gaps."""
    n, height, width = pictures.shape
    framed = np.full((n, height + 1, width + 1), np.nan)
    framed[:, :-1, :-1] = pictures
    rows = framed.reshape(-1, columns, height + 1, width + 1).swapaxes(1, 2)
    return rows.reshape(-1, columns * (width + 1))[:-1, :-1]


def main():
    """Train the net, count its errors on pictures that it has not seen, and draw its filters and what they answer."""
    given = options(__doc__)
    X, y, X_test, y_test = mnist(6_000 if given.quick else 60_000)
    theta = start(SHAPES)
    losses = train(gradient, theta, X, y, 100, 2 if given.quick else 4, 3e-3)
    logits = np.concatenate([forward(theta, part)[-1] for part in np.split(X_test, 10)])
    print(f"loss by epoch: {', '.join(f'{loss:.3f}' for loss in losses)}")
    print(f"accuracy on {len(X_test):,} test pictures: {(logits.argmax(1) == y_test[:, 0]).mean():.4f}")

    digit = X_test[:1]
    filters, answers = layers(theta, SHAPES)[0][0], forward(theta, digit)[1].T
    figure, axes = panels(3, width=11.4, height=4.1)
    most = abs(filters).max()
    axes[0].imshow(digit[0], "gray_r")
    axes[1].imshow(tiled(filters.reshape(-1, SIZE, SIZE)), "RdBu", vmin=-most, vmax=most)
    axes[2].imshow(tiled(answers.reshape(-1, 12, 12)), "gray_r")
    for ax, title in zip(axes, ("a digit", "16 filters", "what each answers to its patches"), strict=True):
        ax.set_title(title)
        ax.axis("off")
    save(figure, given.output / "convolution.png")


if __name__ == "__main__":
    main()
