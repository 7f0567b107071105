import KDNumerics

extension Manifest {
    /// The size of the pictures: what was asked for, else the starting picture's, else the
    /// bundle's.
    ///
    /// - Throws: `KDError.request` where the bundle does not draw that size.
    func size(for request: Request) throws -> PixelSize {
        var usual = PixelSize(width: defaults.width, height: defaults.height)
        if let picture = request.initial {
            usual = PixelSize(
                width: picture.width - picture.width % shapes.multiple,
                height: picture.height - picture.height % shapes.multiple)
        }
        let size = PixelSize(
            width: request.width ?? shapes.width ?? usual.width,
            height: request.height ?? shapes.height ?? usual.height)
        try shapes.require(size)
        if let picture = request.initial, size.width == 0 || size.height == 0 {
            let small = PixelSize(width: picture.width, height: picture.height)
            throw KDError.request(.pictureTooSmall(small, multiple: shapes.multiple))
        }
        return size
    }
}

extension Shapes {
    /// Throws `KDError.request` where the bundle does not draw a size.
    func require(_ size: PixelSize) throws {
        if !sizes.isEmpty {
            guard sizes.contains(size) else {
                throw KDError.request(.size(size, allowed: sizes))
            }
            return
        }
        let only = PixelSize(width: width ?? size.width, height: height ?? size.height)
        guard size == only else { throw KDError.request(.size(size, allowed: [only])) }
        let free = (width == nil ? size.width : 0, height == nil ? size.height : 0)
        guard free.0 % multiple == 0, free.1 % multiple == 0 else {
            throw KDError.request(.sizeMultiple(size, multiple: multiple))
        }
    }
}
