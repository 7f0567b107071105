import Foundation
import KDDiffusion
import KDNumerics

extension Studio {
    /// Draws with the settings of now; does nothing where `canDraw` is false.
    public func draw() {
        guard canDraw, let rules, let entry = current, let bundle = try? entry.bundle.get() else {
            return
        }
        let run = Run(
            request: rules.request(settings, pictures: pictures, reducedMemory: reducedMemory),
            settings: settings, bundle: bundle, model: entry.title)
        preview = nil
        notice = nil
        phase = .drawing(DrawingProgress())
        work = Task { await draw(run) }
    }

    /// Stops what is being drawn or loaded, as soon as the call of a model that is under way ends.
    public func cancel() {
        if case .drawing(var progress) = phase {
            progress.isCancelling = true
            phase = .drawing(progress)
        }
        work?.cancel()
    }

    /// Answers the system's warnings that memory is short.
    ///
    /// - Parameter critical: Whether programs will soon be ended. A picture that is being drawn is
    ///   given up then, and from now on one model is held in memory at a time. Otherwise models are
    ///   freed only where nothing is drawn.
    public func memoryIsShort(critical: Bool) async {
        if phase.isBusy {
            guard critical else { return }
            await stop()
            loads += 1
            reducedMemory = true
            phase = .outOfMemory
            await takeDrawer()?.unload()
        } else {
            await drawer?.unload()
        }
    }

    /// Gives up the picture that is being drawn: in the background the system allows no such work.
    public func enterBackground() async {
        guard case .drawing = phase else { return }
        await stop()
        notice = "The picture was given up because the app went into the background."
    }

    /// Deletes a stored picture.
    public func remove(_ item: GalleryItem) async {
        let gallery = environment.gallery
        do {
            try await offMain { try gallery.remove(item) }
        } catch {
            notice = error.localizedDescription
        }
        items = await offMain { gallery.items() }
        latest.removeAll { $0.id == item.id }
    }

    /// Cancels what is under way and waits for its end.
    func stop() async {
        // More may begin while this waits.
        while let task = work {
            cancel()
            await task.value
            if work == task { work = nil }
        }
    }

    /// Makes what draws, away from the main actor: it reads the tokenizers.
    func makeDrawer(_ bundle: ModelBundle) async throws -> any Drawer {
        let (make, reducedMemory) = (environment.makeDrawer, reducedMemory)
        let drawer = try await offMain { try make(bundle, reducedMemory) }
        self.drawer = drawer
        return drawer
    }

    /// Hands over what draws, so that nothing else uses it.
    func takeDrawer() -> (any Drawer)? {
        defer { drawer = nil }
        return drawer
    }
}

/// What is needed to draw and to store what was drawn.
private struct Run {
    let request: Request
    let settings: Settings
    let bundle: ModelBundle
    let model: String
}

extension Studio {
    private func draw(_ run: Run) async {
        do {
            var drawer = drawer
            if drawer == nil { drawer = try await makeDrawer(run.bundle) }
            guard let drawer else { throw CancellationError() }
            var finished: ([Picture], Plan)?
            for try await event in drawer.generate(run.request) {
                switch event {
                case .started(let plan): tell(plan.truncations)
                case .step(let report): show(report)
                case .finished(let pictures, let plan): finished = (pictures, plan)
                }
            }
            // A stream whose reader is cancelled may just end.
            guard let (pictures, plan) = finished else { throw CancellationError() }
            try await store(pictures, plan: plan, run: run)
            phase = .ready
        } catch is CancellationError {
            phase = .ready
        } catch {
            phase = .failed(error.localizedDescription)
        }
        preview = nil
    }

    private func show(_ report: StepReport) {
        guard case .drawing(var progress) = phase else { return }
        progress.done = report.index + 1
        progress.total = report.total
        phase = .drawing(progress)
        if let picture = report.preview { preview = picture }
    }

    private func tell(_ truncations: [Truncation]) {
        guard let first = truncations.first else { return }
        notice =
            "The text is too long for the model, which does not read its end: '\(first.removed)'."
    }

    private func store(_ pictures: [Picture], plan: Plan, run: Run) async throws {
        let environment = environment
        let date = environment.now()
        let stored = try await offMain {
            try pictures.enumerated().map { index, picture in
                let item = GalleryItem(
                    plan: plan, settings: run.settings, model: run.model, index: index, date: date)
                try environment.gallery.store(environment.encodePNG(picture), item: item)
                return item
            }
        }
        latest = stored
        items = stored + items
    }
}
