import Foundation
import KDCoreML
import KDDiffusion

/// Draws a picture with a bundle and makes a PNG file of it.
func drawVase(with folder: URL) async throws -> Data? {
    let bundle = try ModelBundle(folder: folder)
    let engine = try CoreMLEngine(bundle: bundle)
    let pipeline = try DiffusionPipeline(bundle: bundle, engine: engine)
    try await pipeline.load()

    var request = Request(prompt: "a golden vase with different flowers")
    request.seed = 0
    request.previews = .every(5)
    for try await event in pipeline.generate(request) {
        switch event {
        case .started(let plan): print("seed \(plan.seed)")
        case .step(let report): print("step \(report.index + 1) of \(report.total)")
        case .finished(let pictures, _):
            return try pictures.first.map { try PictureFile.encode($0) }
        }
    }
    return nil
}
