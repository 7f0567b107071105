/// Conversion between 32-bit and 16-bit floating point, rounding to the nearest, ties to even.
///
/// Swift has no `Float16` on Intel Macs; there the numbers are taken apart by hand.
enum Half {
    /// The bits of the 16-bit number nearest to `value`; infinite beyond 65519.
    @inline(__always)
    static func bits(_ value: Float) -> UInt16 {
        #if (os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64)
            roundedBits(value)
        #else
            Float16(value).bitPattern
        #endif
    }

    /// The number that 16 bits stand for.
    @inline(__always)
    static func value(_ bits: UInt16) -> Float {
        #if (os(macOS) || targetEnvironment(macCatalyst)) && arch(x86_64)
            widenedValue(bits)
        #else
            Float(Float16(bitPattern: bits))
        #endif
    }

    /// `bits(_:)` without `Float16`.
    static func roundedBits(_ value: Float) -> UInt16 {
        let sign = UInt16(truncatingIfNeeded: value.bitPattern >> 16) & 0x8000
        let size = value.bitPattern & 0x7FFF_FFFF
        if size > 0x7F80_0000 {
            return sign | 0x7E00 | UInt16(truncatingIfNeeded: size >> 13) & 0x01FF
        }
        // 65520 is half way between the largest finite number and the next power of two.
        if size >= 0x477F_F000 { return sign | 0x7C00 }
        if size >= 0x3880_0000 {
            let rounded = size + 0x0FFF + (size >> 13 & 1)
            return sign | UInt16(truncatingIfNeeded: (rounded >> 13) - (112 << 10))
        }
        // Below 2^-14 the unit is 2^-24; half of that, a tie with 0, becomes 0.
        if size <= 0x3300_0000 { return sign }
        let fraction = size & 0x007F_FFFF | 0x0080_0000
        let shift = 126 - (size >> 23)
        let rounded = fraction + ((1 << (shift - 1)) - 1) + (fraction >> shift & 1)
        return sign | UInt16(truncatingIfNeeded: rounded >> shift)
    }

    /// `value(_:)` without `Float16`.
    static func widenedValue(_ bits: UInt16) -> Float {
        let sign = UInt32(bits & 0x8000) << 16
        let exponent = UInt32(bits >> 10 & 0x1F)
        let fraction = UInt32(bits & 0x03FF)
        if exponent == 0 {
            let size = Float(fraction) * 0x1p-24
            return sign == 0 ? size : -size
        }
        if exponent == 0x1F {
            // A NaN becomes a quiet one, as the processors have it.
            let quiet: UInt32 = fraction == 0 ? 0 : 0x0040_0000
            return Float(bitPattern: sign | 0x7F80_0000 | quiet | fraction << 13)
        }
        return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
}
