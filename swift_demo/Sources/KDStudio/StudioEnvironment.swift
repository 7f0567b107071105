import Foundation
import KDDiffusion
import KDNumerics

/// What the app's state needs from the world: Core ML and ImageIO in the app, stand-ins in tests.
public struct StudioEnvironment: Sendable {
    /// The bundles.
    public var library: BundleLibrary
    /// The pictures.
    public var gallery: Gallery
    /// Makes what draws with a bundle, with one model in memory at a time or with all.
    public var makeDrawer: @Sendable (ModelBundle, _ reducedMemory: Bool) throws -> any Drawer
    /// Makes the PNG file of a picture.
    public var encodePNG: @Sendable (Picture) throws -> Data
    /// Frees what was prepared for a bundle that is removed.
    public var forget: @Sendable (Manifest) async -> Void
    /// Reads how much memory is in use.
    public var memory: @Sendable () -> MemoryReading?
    /// The time.
    public var now: @Sendable () -> Date

    public init(
        library: BundleLibrary, gallery: Gallery,
        makeDrawer: @escaping @Sendable (ModelBundle, Bool) throws -> any Drawer,
        encodePNG: @escaping @Sendable (Picture) throws -> Data,
        forget: @escaping @Sendable (Manifest) async -> Void = { _ in },
        memory: @escaping @Sendable () -> MemoryReading? = { MemoryReading.now() },
        now: @escaping @Sendable () -> Date = { Date() }
    ) {
        self.library = library
        self.gallery = gallery
        self.makeDrawer = makeDrawer
        self.encodePNG = encodePNG
        self.forget = forget
        self.memory = memory
        self.now = now
    }
}
