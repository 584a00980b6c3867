// Between the viewer's world (LPS millimetres) and prompts: RAS millimetres, or voxels [column, row, slice] of the series.

export const flip = (point) => [-point[0], -point[1], point[2]];

/** Inverse of the upper 3 x 3 of a [4, 4] affine, and its translation. */
function inverse(affine) {
  const [a, b, c] = affine.map((row) => row.slice(0, 3));
  const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
  const columns = [cross(b, c), cross(c, a), cross(a, b)];
  const det = a[0] * columns[0][0] + a[1] * columns[0][1] + a[2] * columns[0][2];
  return [0, 1, 2].map((row) => columns.map((column) => column[row] / det));
}

const apply = (matrix, v) => matrix.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);

/** The voxel grid of a series. */
export class Space {
  /** @param shape voxels along [column, row, slice]  @param affine [4, 4], voxel index to RAS millimetres */
  constructor(shape, affine) {
    this.shape = shape;
    this.affine = affine;
    this.back = inverse(affine);
  }

  /** Fractional voxel index of a point of the viewer. */
  voxel(lps) {
    const ras = flip(lps);
    return apply(this.back, ras.map((value, axis) => value - this.affine[axis][3]));
  }

  /** A point of the viewer from a fractional voxel index. */
  world(index) {
    return flip(apply(this.affine, index).map((value, axis) => value + this.affine[axis][3]));
  }

  inside(index) {
    return index.every((value, axis) => value >= -0.5 && value <= this.shape[axis] - 0.5);
  }

  /** Axis along which voxel indices agree to half a voxel; -1 if there is none. */
  flat(indices) {
    const spread = [0, 1, 2].map((axis) => {
      const values = indices.map((index) => index[axis]);
      return Math.max(...values) - Math.min(...values);
    });
    const least = spread.indexOf(Math.min(...spread));
    return spread[least] <= 0.5 ? least : -1;
  }

  /** Half-open voxel bounds around corners drawn in the viewer, cut at the image; grown by `depth` mm where flat. */
  box(corners, depth = 0) {
    const indices = corners.map((corner) => this.voxel(corner));
    const flat = this.flat(indices);
    const low = [], high = [];
    for (let axis = 0; axis < 3; axis++) {
      const values = indices.map((index) => index[axis]);
      let [first, last] = [Math.min(...values), Math.max(...values)];
      if (axis === flat && depth > 0) {
        const step = Math.hypot(...[0, 1, 2].map((row) => this.affine[row][axis]));
        first -= depth / 2 / step;
        last += depth / 2 / step;
      }
      low.push(Math.max(0, Math.round(first)));
      high.push(Math.min(this.shape[axis], Math.round(last) + 1));
      if (low[axis] >= high[axis]) throw new Error("The box lies outside the image.");
    }
    return { low, high };
  }

  /** Points of the viewer that fill a closed outline on any plane, half a voxel apart. */
  fill(outline) {
    const sub = (u, v) => u.map((value, axis) => value - v[axis]);
    const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
    const unit = (u) => u.map((value) => value / Math.hypot(...u));
    const origin = outline[0];
    const far = outline.reduce((best, point) =>
      (Math.hypot(...sub(point, origin)) > Math.hypot(...sub(best, origin)) ? point : best));
    const x = unit(sub(far, origin));
    let y = [0, 0, 0];
    for (const point of outline) {
      const off = sub(sub(point, origin), x.map((value) => value * dot(sub(point, origin), x)));
      if (Math.hypot(...off) > Math.hypot(...y)) y = off;
    }
    y = unit(y);
    const flat = outline.map((point) => [dot(sub(point, origin), x), dot(sub(point, origin), y)]);
    const step = Math.min(...[0, 1, 2].map((a) => Math.hypot(...[0, 1, 2].map((r) => this.affine[r][a])))) / 2;
    const [us, vs] = [flat.map((p) => p[0]), flat.map((p) => p[1])];
    const points = [];
    for (let v = Math.min(...vs); v <= Math.max(...vs); v += step) {
      for (let u = Math.min(...us); u <= Math.max(...us); u += step) {
        if (within(u, v, flat)) points.push(origin.map((value, a) => value + u * x[a] + v * y[a]));
      }
    }
    return points;
  }
}

/** Whether a point lies inside a polygon (even-odd rule). */
function within(u, v, polygon) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [[ui, vi], [uj, vj]] = [polygon[i], polygon[j]];
    if (vi > v !== vj > v && u < ((uj - ui) * (v - vi)) / (vj - vi) + ui) inside = !inside;
  }
  return inside;
}
