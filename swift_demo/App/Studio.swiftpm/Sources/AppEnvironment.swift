import Foundation
import KDCoreML
import KDDiffusion
import KDStudio

extension StudioEnvironment {
    /// Core ML, ImageIO and the app's own folders.
    static var app: StudioEnvironment {
        let support = URL.applicationSupportDirectory
            .appendingPathComponent("Studio", isDirectory: true)
        return StudioEnvironment(
            library: BundleLibrary(
                folder: support.appendingPathComponent("Models", isDirectory: true),
                resources: bundledModels()),
            gallery: Gallery(
                folder: support.appendingPathComponent("Pictures", isDirectory: true)),
            makeDrawer: { bundle, reducedMemory in
                try DiffusionPipeline(
                    bundle: bundle, engine: CoreMLEngine(bundle: bundle),
                    options: PipelineOptions(reducedMemory: reducedMemory))
            },
            encodePNG: { try PictureFile.encode($0) },
            forget: { manifest in
                if let compiled = try? CompiledModels() { await compiled.remove(manifest) }
            })
    }

    /// The bundles in the app's resources, which lie in the app itself or in a bundle inside of it.
    private static func bundledModels() -> [URL] {
        guard let app = Bundle.main.resourceURL else { return [] }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: app.path)) ?? []
        let inner = names.filter { $0.hasSuffix(".bundle") }.compactMap {
            Bundle(url: app.appendingPathComponent($0, isDirectory: true))?.resourceURL
        }
        return BundleLibrary.bundles(
            in: ([app] + inner).map { $0.appendingPathComponent("Models", isDirectory: true) })
    }
}
