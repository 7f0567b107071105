import XCTest

@testable import KDCoreML

// Swift has no `Float16` to compare with on Intel Macs.
#if !(os(macOS) && arch(x86_64))
final class HalfTests: XCTestCase {
    func testWidensEveryNumberOf16Bits() {
        for bits in UInt16.min...UInt16.max {
            let expected = Float(Float16(bitPattern: bits))
            let widened = Half.widenedValue(bits)
            if expected.isNaN {
                XCTAssertTrue(widened.isNaN, "\(bits)")
            } else {
                XCTAssertEqual(widened.bitPattern, expected.bitPattern, "\(bits)")
            }
            XCTAssertEqual(Half.value(bits).isNaN, expected.isNaN)
        }
    }

    func testRoundsAsTheProcessorDoes() {
        // Every number of 16 bits, the ties between neighbours, and what lies next to both.
        for bits in UInt16(0)..<0x7C00 {
            let low = Float(Float16(bitPattern: bits))
            let next = bits == 0x7BFF ? 65536 : Float(Float16(bitPattern: bits + 1))
            let tie = (low + next) / 2
            for value in [low, low.nextUp, tie.nextDown, tie, tie.nextUp, next.nextDown] {
                for signed in [value, -value] {
                    let expected = Float16(signed).bitPattern
                    XCTAssertEqual(Half.roundedBits(signed), expected, "\(signed)")
                    XCTAssertEqual(Half.bits(signed), expected, "\(signed)")
                }
            }
        }
    }

    func testRoundsWhatIsFarAway() {
        for value: Float in [.infinity, 1e30, 65520, 65519.996, .leastNonzeroMagnitude, 0x1p-25] {
            XCTAssertEqual(Half.roundedBits(value), Float16(value).bitPattern, "\(value)")
            XCTAssertEqual(Half.roundedBits(-value), Float16(-value).bitPattern, "\(-value)")
        }
        XCTAssertTrue(Half.widenedValue(Half.roundedBits(.nan)).isNaN)
        XCTAssertEqual(Half.roundedBits(-0.0), 0x8000)
    }
}
#endif
