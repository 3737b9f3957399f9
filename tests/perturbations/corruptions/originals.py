"""ImageNet-C's corruptions, step by step as their definition has them, with the random numbers handed in."""

import math
from io import BytesIO

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.ndimage import zoom as scipy_zoom
from skimage.color import hsv2rgb, rgb2hsv
from skimage.filters import gaussian


def clipped_zoom(field, factor):
    size = field.shape[0]
    crop = int(np.ceil(size / factor))
    top = (size - crop) // 2
    field = scipy_zoom(field[top : top + crop, top : top + crop], (factor, factor), order=1)
    trim = (field.shape[0] - size) // 2
    return field[trim : trim + size, trim : trim + size]


def shifted(image, dx, dy):
    y = np.clip(np.arange(image.shape[0]) - dy, 0, image.shape[0] - 1)
    x = np.clip(np.arange(image.shape[1]) - dx, 0, image.shape[1] - 1)
    return image[y][:, x]


def motion(image, radius, deviation, angle):
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * deviation**2))
    weights /= weights.sum()
    out = np.zeros(image.shape)
    for i in range(width):
        dy = -math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        dx = -math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        if abs(dy) >= image.shape[0] or abs(dx) >= image.shape[1]:
            break
        out += weights[i] * shifted(image, dx, dy)
    return out


def glass(image, c, offsets):
    """offsets[i][h, w] = (dx, dy)."""
    sigma, reach, rounds = c
    x = np.uint8(gaussian(image / 255.0, sigma=sigma, channel_axis=-1) * 255)
    for i in range(rounds):
        for h in range(image.shape[0] - reach, reach, -1):
            for w in range(image.shape[1] - reach, reach, -1):
                dx, dy = offsets[i][h, w]
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]  # views: this does not swap
    return np.clip(gaussian(x / 255.0, sigma=sigma, channel_axis=-1), 0, 1) * 255


def plasma(noise, decay):
    size = len(noise)
    heights = np.zeros((size, size))
    step, scale = size, 100.0
    while step >= 2:
        half = step // 2
        for y in range(half, size, step):
            for x in range(half, size, step):
                around = [heights[(y + a) % size, (x + b) % size] for a in (-half, half) for b in (-half, half)]
                heights[y, x] = sum(around) / 4 + scale * scale * noise[y, x]
        for first, second in ((0, half), (half, 0)):
            for y in range(first, size, step):
                for x in range(second, size, step):
                    around = [
                        heights[(y + a) % size, (x + b) % size]
                        for a, b in ((-half, 0), (half, 0), (0, -half), (0, half))
                    ]
                    heights[y, x] = sum(around) / 4 + scale * scale * noise[y, x]
        step, scale = half, scale / decay
    heights -= heights.min()
    return heights / heights.max()


def fog(image, c, noise):
    x = image / 255.0
    top = x.max()
    x = x + c[0] * plasma(noise, c[1])[: x.shape[0], : x.shape[1], None]
    return np.clip(x * top / (top + c[0]), 0, 1) * 255


def frost(image, c, texture, top, left):
    part = texture[top : top + image.shape[0], left : left + image.shape[1]]
    return np.clip(c[0] * image + c[1] * part, 0, 255)


def spatter(image, c, noise):
    x = image.astype(np.float32) / 255
    layer = gaussian(noise * c[1] + c[0], sigma=c[2])
    layer[layer < c[3]] = 0
    if c[5]:
        mud = gaussian(np.where(layer > c[3], 1, 0).astype(np.float32), sigma=c[4])
        mud[mud < 0.8] = 0
        return np.clip(x * (1 - mud[..., None]) + mud[..., None] * np.array([63, 42, 20]) / 255, 0, 1) * 255
    layer = (layer * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(layer, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)[1]
    relief = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    relief = cv2.filter2D(relief, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    water = layer * cv2.blur(relief, (3, 3)).astype(np.float32)
    return np.clip(x + (water / water.max() * c[4])[..., None] * np.array([175, 238, 238]) / 255, 0, 1) * 255


def deterministic(image, name, c):
    """The corruptions that draw nothing, for any constants."""
    x = image / 255.0
    if name == "gaussian_blur":
        x = gaussian(x, sigma=c[0], channel_axis=-1)
    elif name == "defocus_blur":
        line = np.arange(-8, 9)
        disk = (line[:, None] ** 2 + line**2 <= c[0] ** 2).astype(np.float32)
        x = cv2.filter2D(x, -1, cv2.GaussianBlur(disk / disk.sum(), (3, 3), c[1]))
    elif name == "zoom_blur":
        factors = np.arange(1, *c)
        zoomed = [np.stack([clipped_zoom(x[..., k], factor) for k in range(3)], -1) for factor in factors]
        x = (x + sum(zoomed)) / (len(factors) + 1)
    elif name == "contrast":
        mean = x.mean((0, 1), keepdims=True)
        x = (x - mean) * c[0] + mean
    else:
        x = rgb2hsv(x)
        if name == "brightness":
            x[..., 2] = np.clip(x[..., 2] + c[0], 0, 1)
        else:
            x[..., 1] = np.clip(x[..., 1] * c[0] + c[1], 0, 1)
        x = hsv2rgb(x)
    return np.clip(x, 0, 1) * 255


def through_pillow(image, name, c):
    """pixelate and jpeg_compression."""
    picture = Image.fromarray(image)
    if name == "pixelate":
        small = picture.resize((int(image.shape[1] * c[0]), int(image.shape[0] * c[0])), Image.Resampling.BOX)
        return np.asarray(small.resize(picture.size, Image.Resampling.BOX))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=c[0])
    return np.asarray(Image.open(buffer))


def snow(image, c, noise, angle):
    x = image.astype(np.float32) / 255
    layer = clipped_zoom(noise * c[1] + c[0], c[2])
    layer[layer < c[3]] = 0
    layer = motion(np.clip(layer, 0, 1), c[4], c[5], angle)
    layer = (np.round(layer * 255).astype(np.uint8) / 255.0)[..., None]
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = c[6] * x + (1 - c[6]) * np.maximum(x, grey * 1.5 + 0.5)
    return np.clip(x + layer + np.rot90(layer, k=2), 0, 1) * 255


def elastic(image, c, shifts, noise_x, noise_y):
    """shifts: (3, 2) in -1..1; c = (alpha, sigma, jitter) in pixels of this image."""
    alpha, sigma, jitter = c
    height, width = image.shape[:2]
    middle, reach = np.float32((height, width)) // 2, min(height, width) // 3
    points = np.float32([middle + reach, [middle[0] + reach, middle[1] - reach], middle - reach])
    matrix = cv2.getAffineTransform(points, (points + jitter * shifts).astype(np.float32))
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    at_x = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    at_y = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]

    def warp(source, rows, columns, mode):
        planes = [map_coordinates(source[..., c], [rows, columns], order=1, mode=mode) for c in range(3)]
        return np.stack(planes, -1)

    moved = warp(image.astype(np.float64), at_y, at_x, "mirror")
    dx = gaussian(noise_x, sigma, mode="reflect", truncate=3) * alpha
    dy = gaussian(noise_y, sigma, mode="reflect", truncate=3) * alpha
    return np.clip(warp(moved, y + dy, x + dx, "reflect"), 0, 255)
