"""Sums over windows and targets from which the least squares of a convolution follow, for any number of images.

For windows of C channels and M offsets, G[m, m'] = sum_j u[j - m] u[j - m']^T has (C M)^2 numbers; for 512 channels
and 7 x 7 offsets those are 629 million, and adding them up window by window takes half a day. Over all positions j the
sum depends on m - m' alone: it is the autocorrelation of u, which Fourier transforms give a thousand times faster. The
positions j that the convolution crops away (before the first, after the last) have to be taken off again. Their windows
see only a strip at the border, so the moments of the strips are kept as well; in each direction J = all - low - high,
and the product of two directions has nine terms:

    G = sum over parts a, b of sign_a sign_b G_ab,      sign = + for all, - for low and high

All sums are products of float64 numbers, added in float64.
"""

from collections.abc import Iterator

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

from pcbench.training.phases import Axis, Phase

PARTS = {"all": 1.0, "low": -1.0, "high": -1.0}
TILE = 56  # a map larger than that is transformed in tiles: few wanted lags are hidden in many frequencies
SAMPLES = 32  # tiles in one product: enough for products to be worth their inverse transform
ROWS = 128  # channels in one product: bounds its memory


class Moments:
    """Sums over images of one predictor.

    Args:
        channels: C, of the windows.
        targets: O, of what is predicted.
        y, x: the two directions.
        device: where the sums are.
        own: whether the windows' products with themselves are summed, or `gram` is known from elsewhere.

    Attributes:
        images: how many there were.
        total: (C, H, W), sum of u.
        target_total, target_squares: (O,), sums of targets and of their squares over images and outputs.
        cross: (offsets in y, offsets in x, C, phases * O): sum_j u[j - m] target[j]; phases in the order of `phases`.
    """

    def __init__(
        self,
        channels: int,
        targets: int,
        y: Axis,
        x: Axis,
        device: torch.device | str = "cpu",
        *,
        own: bool = True,
    ) -> None:
        self.channels, self.targets, self.y, self.x = channels, targets, y, x
        self.device = torch.device(device)
        self.images = 0
        self.total = self._zeros(channels, y.size, x.size)
        self.target_total, self.target_squares = self._zeros(targets), self._zeros(targets)
        self.cross = self._zeros(y.reach + 1, x.reach + 1, channels, len(self.phases) * targets)
        # (part in y, part in x) -> (pair in y, pair in x, C, C). In y pairs with i <= i' are enough: the others are
        # their transposes.
        self._own: dict[tuple[str, str], Tensor] = {}
        for a, b in self._parts() if own else ():
            pairs = len(_upper(y, a)), len(_every(x, b))
            self._own[a, b] = self._zeros(*pairs, channels, channels)

    @property
    def phases(self) -> list[tuple[Phase, Phase]]:
        """Pairs of phases in y and x."""
        return [(py, px) for py in self.y.phases for px in self.x.phases]

    def add(self, u: Tensor, target: Tensor) -> None:
        """Add images: u (B, C, H, W), and what is to be predicted from it (B, O, H', W')."""
        step = max(1, SAMPLES // (_tiles(self.y) * _tiles(self.x)))
        for start in range(0, len(u), step):
            self._add(u[start : start + step].to(self.device).double(), target[start : start + step].to(self.device))

    def _add(self, u: Tensor, target: Tensor) -> None:
        self.images += len(u)
        values = target.double()
        self.total += u.sum(0)
        self.target_total += values.sum((0, 2, 3))
        self.target_squares += values.square().sum((0, 2, 3))
        targets = (self._on_grid(values, n) for n in range(len(self.phases)))  # one at a time: that bounds the memory
        _add_correlations(u, targets, self._own.get(("all", "all")), self.cross, self.y, self.x)
        for (a, b), sums in self._own.items():
            if (a, b) != ("all", "all"):
                self._add_strips(u[:, :, self.y.strip(a), self.x.strip(b)], a, b, sums)

    def _on_grid(self, target: Tensor, n: int) -> Tensor:
        """The targets of phase n of `phases` on the grid of positions: (B, O, length in y, length in x)."""
        py, px = self.phases[n]
        grid = target.new_zeros(len(target), self.targets, self.y.length, self.x.length)
        grid[:, :, self.y.positions(py), self.x.positions(px)] = target[:, :, self.y.outputs(py), self.x.outputs(px)]
        return grid

    def _add_strips(self, u: Tensor, a: str, b: str, sums: Tensor) -> None:
        """Products of places in the strips of one pair of parts; at least one of the two is a strip."""
        ys = [(i, k) for i, k in _upper(self.y, a)]
        xs = _every(self.x, b)
        if a == "all":  # lags in y, pairs in x
            for n, (i, k) in enumerate(xs):
                _add_lags(u[..., i], u[..., k], sums[:, n], self.y, negative=False)
            return
        for n, (i, k) in enumerate(ys):
            if b == "all":
                _add_lags(u[:, :, i], u[:, :, k], sums[n], self.x, negative=True)
                continue
            for m, (j, l) in enumerate(xs):  # noqa: E741 - i, j, k, l are places
                sums[n, m].addmm_(u[:, :, i, j].T, u[:, :, k, l])

    def _parts(self) -> Iterator[tuple[str, str]]:
        for a in PARTS:
            for b in PARTS:
                if _upper(self.y, a) and _every(self.x, b):
                    yield a, b

    def window_sum(self, py: Phase, px: Phase) -> Tensor:
        """Sum over positions of the windows of a phase: (taps * C,), taps in y slowest."""
        parts = [
            self.total[:, self.y.window(py, m), self.x.window(px, n)].sum((1, 2))
            for m in py.offsets
            for n in px.offsets
        ]
        return torch.cat(parts) if parts else self._zeros(0)

    def own_squares(self) -> Tensor:
        """Sum of the squares of u, (C,)."""
        return self._own["all", "all"][0, self.x.reach].diagonal()

    def products(self, n: int) -> Tensor:
        """Sum over positions of windows times targets of phase n of `phases`: (taps * C, O)."""
        py, px = self.phases[n]
        own = self.cross[..., n * self.targets : (n + 1) * self.targets]
        chosen = own[list(py.offsets)][:, list(px.offsets)]
        return chosen.reshape(-1, self.targets)

    def gram(self, py: Phase, px: Phase) -> Tensor:
        """Sum over positions of windows times windows of a phase: (taps * C, taps * C), symmetric, on the CPU."""
        offsets = [(m, n) for m in py.offsets for n in px.offsets]
        C = self.channels
        result = torch.zeros(len(offsets) * C, len(offsets) * C, dtype=torch.float64)
        blocks = result.view(len(offsets), C, len(offsets), C)
        for r, (m, n) in enumerate(offsets):
            for q, (k, l) in enumerate(offsets[: r + 1]):  # noqa: E741
                block = blocks[r, :, q]
                for (a, b), sums in self._own.items():
                    sign = PARTS[a] * PARTS[b]
                    for pair in self.y.cells(a, py, m, k):
                        for other in self.x.cells(b, px, n, l):
                            block.add_(_pair(sums, self.y, self.x, a, b, pair, other).cpu(), alpha=sign)
                if q < r:
                    blocks[q, :, r] = block.T
        return result

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)


def operations(channels: int, targets: int, y: Axis, x: Axis) -> float:
    """Floating-point operations for one image, roughly: products of spectra, and as much for transforms and strips."""
    lengths = [_tiles(a) * next_fast_len(-(-a.size // _tiles(a)) + 2 * a.reach, real=True) for a in (y, x)]
    others = channels + targets * len(y.phases) * len(x.phases)
    return 8.0 * lengths[0] * lengths[1] * channels * others  # half of the spectrum, twice


def bytes_of(channels: int, targets: int, y: Axis, x: Axis) -> int:
    """Memory that the sums take."""
    pairs = sum(len(_upper(y, a)) * len(_every(x, b)) for a in PARTS for b in PARTS)
    cross = (y.reach + 1) * (x.reach + 1) * channels * len(y.phases) * len(x.phases) * targets
    return 8 * (pairs * channels**2 + cross + channels * y.size * x.size)


def _every(axis: Axis, part: str) -> list[tuple[int, int]]:
    """All pairs of a part: (0, lag), or places in a strip."""
    if part == "all":
        return [(0, lag) for lag in range(-axis.reach, axis.reach + 1)]
    width = axis.low if part == "low" else axis.high
    return [(i, k) for i in range(width) for k in range(width)]


def _upper(axis: Axis, part: str) -> list[tuple[int, int]]:
    """The pairs with i <= i'."""
    return [(i, k) for i, k in _every(axis, part) if i <= k]


def _pair(sums: Tensor, y: Axis, x: Axis, a: str, b: str, pair: tuple[int, int], other: tuple[int, int]) -> Tensor:
    """The sum of u[pair[0], other[0]] u[pair[1], other[1]]^T, (C, C), which may be kept as its transpose."""
    turned = pair[0] > pair[1]
    if turned:
        pair, other = _turned(a, pair), _turned(b, other)
    found = sums[_upper(y, a).index(pair), _every(x, b).index(other)]
    return found.T if turned else found


def _turned(part: str, pair: tuple[int, int]) -> tuple[int, int]:
    return (0, -pair[1]) if part == "all" else (pair[1], pair[0])


def _tiles(axis: Axis) -> int:
    return -(-axis.size // TILE)


def _frequencies(lags: range, length: int, *, half: bool, device: torch.device) -> Tensor:
    """Rows that take a spectrum to some lags of its correlation: (lags, frequencies), complex128.

    Args:
        lags: which.
        length: of the grid.
        half: only the frequencies that `rfft` gives; the real part of the result is then the correlation.
        device: where.
    """
    count = length // 2 + 1 if half else length
    f = torch.arange(count, dtype=torch.float64, device=device)
    angle = 2 * torch.pi * torch.outer(torch.tensor(list(lags), dtype=torch.float64, device=device), f) / length
    weight = torch.full_like(f, 1 / length)
    if half:
        weight[1 : (length + 1) // 2] *= 2
    return torch.polar(weight.expand_as(angle).contiguous(), angle)


def _add_lags(u: Tensor, v: Tensor, sums: Tensor, axis: Axis, *, negative: bool) -> None:
    """Add sum_i u[i] v[i + lag]^T to sums (lags, C, C), from (B, C, size), for lags from 0, or from -reach."""
    length = next_fast_len(axis.size + axis.reach, real=True)
    spectra = [torch.fft.rfft(w, length).permute(2, 1, 0) for w in (u, v)]  # (F, C, B)
    products = torch.bmm(spectra[0].conj(), spectra[1].transpose(1, 2))
    lags = range(-axis.reach if negative else 0, axis.reach + 1)
    back = _frequencies(lags, length, half=True, device=u.device)
    sums += (back @ products.flatten(1)).real.view_as(sums)


def _add_correlations(
    u: Tensor, targets: Iterator[Tensor], own: Tensor | None, cross: Tensor, y: Axis, x: Axis
) -> None:
    """Add the correlations of u (B, C, H, W) with itself to `own`, if wanted, and with each (B, O, ...) to `cross`.

    Tiles of u meet what lies around them, `reach` further on each side; the tiles are samples like images.
    """
    tile = [-(-axis.size // _tiles(axis)) for axis in (y, x)]
    wide = [t + 2 * axis.reach for t, axis in zip(tile, (y, x), strict=True)]
    lengths = [next_fast_len(n, real=True) for n in wide]
    full = [t * _tiles(axis) for t, axis in zip(tile, (y, x), strict=True)]
    inside = functional.pad(u, (0, full[1] - x.size, 0, full[0] - y.size))
    spectra = _spectra(inside, tile, tile, lengths).transpose(1, 2).conj().resolve_conj()  # (F, C, samples)
    back_y = _frequencies(range(y.reach, 2 * y.reach + 1), lengths[0], half=False, device=u.device)

    def add(v: Tensor, sums: Tensor, first: int) -> None:
        """Add the correlations with v, padded by `reach`, to sums (lags in y, lags in x, C, K)."""
        others = _spectra(v, tile, wide, lengths)  # (F, samples, K)
        back_x = _frequencies(range(first, 2 * x.reach + 1), lengths[1], half=True, device=u.device)
        rows = max(1, ROWS * 256 // others.shape[2])
        products = others.new_empty(len(spectra), min(rows, len(spectra[0])), others.shape[2])
        for begin in range(0, len(spectra[0]), rows):
            chosen = spectra[:, begin : begin + rows]
            if chosen.shape[1] == products.shape[1]:
                torch.bmm(chosen, others, out=products)  # fresh memory would take longer than the product
            else:
                products = torch.bmm(chosen, others)
            half = (back_y @ products.view(lengths[0], -1)).view(len(back_y), back_x.shape[1], -1)
            found = (back_x @ half).real.reshape(len(back_y), len(back_x), -1, others.shape[2])
            sums[:, :, begin : begin + rows] += found

    if own is not None:
        add(functional.pad(inside, (x.reach, x.reach, y.reach, y.reach)), own, 0)
    for n, target in enumerate(targets):
        O = target.shape[1]  # noqa: E741 - the field's name
        after = full[1] + x.reach - target.shape[3], full[0] + y.reach - target.shape[2]
        padded = functional.pad(target, (x.reach, after[0], y.reach, after[1]))
        add(padded, cross[..., n * O : (n + 1) * O], x.reach)


def _spectra(u: Tensor, tile: list[int], wide: list[int], lengths: list[int]) -> Tensor:
    """Spectra of the tiles of (B, C, ...), each `wide`, beginning every `tile`: (frequencies, tiles * B, C)."""
    tiles = u.unfold(2, wide[0], tile[0]).unfold(3, wide[1], tile[1])  # (B, C, rows, columns, h, w)
    found = torch.fft.rfft2(tiles, s=lengths)
    spectra: Tensor = found.permute(4, 5, 0, 2, 3, 1).flatten(2, 4).flatten(0, 1)
    return spectra
