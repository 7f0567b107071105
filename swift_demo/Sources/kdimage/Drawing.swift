import Foundation
import KDCoreML
import KDDiffusion
import KDNumerics

/// Draws what the command line asks for and writes it.
func draw(_ arguments: Arguments, console: Console) async throws {
    guard CoreMLEngine.isAvailable else { throw CoreMLError.unavailable }
    let output = try OutputFiles(arguments.output, images: arguments.images)
    let previews = try arguments.previews.map(PreviewFiles.init)
    let request = try arguments.request()
    let bundle = try ModelBundle(folder: arguments.bundle)
    if arguments.check {
        try bundle.verify { console.progress("checking \(percent($0))") }
    }
    let engine = try CoreMLEngine(
        bundle: bundle, options: .init(computeUnits: arguments.computeUnits))
    let pipeline = try DiffusionPipeline(
        bundle: bundle, engine: engine,
        options: PipelineOptions(reducedMemory: arguments.reducedMemory))
    // What cannot be drawn is refused before minutes go by.
    _ = try await pipeline.plan(request)
    console.progress("loading; the first time the models are compiled, which may take minutes")
    try await pipeline.load()
    var isDone = false
    for try await event in pipeline.generate(request) {
        switch event {
        case .started(let plan):
            for each in plan.truncations {
                console.say("The text is too long for the model, which reads no '\(each.removed)'.")
            }
        case .step(let report):
            console.progress("step \(report.index + 1) of \(report.total)")
            if let picture = report.preview { try previews?.write(picture, step: report.index) }
        case .finished(let pictures, let plan):
            try output.write(pictures) { description(of: plan, image: $0, bundle: bundle) }
            let names = output.files.map(\.relativePath).joined(separator: ", ")
            console.result("Wrote \(names) (seed \(plan.seed)).")
            isDone = true
        }
    }
    // A stream whose reader is cancelled may just end.
    guard isDone else { throw CancellationError() }
    if bundle.manifest.source.randomWeights {
        console.say("The weights of this bundle are random, so the picture means nothing.")
    }
}

extension Arguments {
    /// What to ask the pipeline for; reads the pictures. Throws `PictureFileError`.
    func request() throws -> Request {
        var request = Request(prompt: prompt)
        request.negativePrompts = negative.map { [$0] }
        request.steps = steps
        request.guidance = guidance
        request.seed = seed
        request.height = height
        request.width = width
        request.imagesPerPrompt = images
        request.scheduler = scheduler
        request.initial = try initial.map { try PictureFile.read($0) }
        request.strength = strength
        request.control = try control.map { [try PictureFile.read($0)] } ?? []
        request.controlScale = controlScale
        request.previews = previews == nil ? .never : .every(1)
        return request
    }
}

/// What it takes to draw a picture again, for its file.
func description(of plan: Plan, image: Int, bundle: ModelBundle) -> String {
    var parts = [plan.prompts.first ?? ""]
    if let negative = plan.negatives?.first, !negative.isEmpty {
        parts.append("negative prompt: \(negative)")
    }
    parts += [
        "steps: \(plan.steps)", "guidance: \(plan.guidance)", "seed: \(plan.seed)",
        "size: \(plan.size)", "image: \(image + 1) of \(plan.images)",
        "scheduler: \(plan.scheduler)", "model: \(bundle.manifest.source.model)",
    ]
    if plan.initial != nil { parts.append("strength: \(plan.strength)") }
    if let control = plan.control { parts.append("control scale: \(control.scale)") }
    return parts.joined(separator: "; ")
}

private func percent(_ share: Double) -> String { "\(Int(share * 100)) %" }
